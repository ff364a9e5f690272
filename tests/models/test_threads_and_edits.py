"""Edits of one call never meet another's: not across threads, not in generation, and nothing stays behind."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import otoscope as oto
from otoscope.models import Edit

LAST = "encoder.ln_post"


def noise(seconds: float, seed: int = 0) -> oto.Clip:
    samples = np.random.default_rng(seed).standard_normal(int(16000 * seconds)).astype(np.float32)
    return oto.Clip.from_samples(0.1 * samples, 16000, clip_id=f"noise-{seed}")


def last(model: oto.SpeechModel, clip: oto.Clip, *edits: Edit) -> Tensor:
    return model.run(clip, [LAST], edits)[LAST]


def test_edits_in_two_threads_equal_edits_one_after_the_other(pocket: oto.SpeechModel) -> None:
    jobs: list[tuple[oto.Clip, list[Edit]]] = [
        (noise(2.0, 1), [Edit.scale("encoder.1.mlp.post", 3.0)]),
        (noise(3.0, 2), [Edit.zero("encoder.0.attn.pattern[1]"), Edit.add("mel", 0.5)]),
        (noise(2.5, 3), []),
    ]
    alone = [last(pocket, clip, *edits) for clip, edits in jobs]
    together: list[list[Tensor]] = [[] for _ in jobs]

    def work(number: int) -> None:
        clip, edits = jobs[number]
        together[number] = [last(pocket, clip, *edits) for _ in range(5)]

    threads = [threading.Thread(target=work, args=[number]) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, results in zip(alone, together, strict=True):
        assert len(results) == 5
        assert all(torch.equal(expected, result) for result in results)
    assert not torch.equal(alone[0], last(pocket, jobs[0][0]))


def test_transcripts_in_two_threads_equal_those_one_after_the_other(pocket: oto.SpeechModel, mini: oto.Corpus) -> None:
    clips = [clip for clip in mini if clip.text][:2]
    silenced = [Edit.zero("decoder.1.cross.out"), Edit.scale("encoder.1.mlp.out", 0.5)]
    jobs: list[Callable[[], str]] = [
        lambda: pocket.transcribe(clips[0], edits=silenced).text,
        lambda: pocket.transcribe(clips[0]).text,
        lambda: pocket.transcribe(clips[1], edits=[Edit.knock_out("decoder.2.cross[1]")]).text,
    ]
    alone = [job() for job in jobs]
    together: list[list[str]] = [[] for _ in jobs]
    threads = [
        threading.Thread(target=lambda n=number: together[n].extend(jobs[n]() for _ in range(3)))
        for number in range(len(jobs))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [[text] * 3 for text in alone]
    assert alone[0] != alone[1]


def test_a_sweep_of_transcripts_equals_transcripts_one_by_one(pocket: oto.SpeechModel, mini: oto.Corpus) -> None:
    clip = next(clip for clip in mini if clip.text)
    sweep = [[Edit.scale("decoder.1.cross.out", factor)] for factor in (1.0, 0.5, 0.0)]
    sweep += [[Edit.zero("encoder.1.mlp.post", time_s=(0.5, 1.5)), Edit.zero("decoder.0.mlp.post", tokens=(5, 9))]]
    base = pocket.transcribe(clip)
    for edits, transcript, scores in zip(
        sweep, pocket.transcribe_each(clip, sweep), pocket.score_each(clip, base, sweep), strict=True
    ):
        alone = pocket.transcribe(clip, edits=edits)
        assert transcript.text == alone.text
        assert [token.id for token in transcript.tokens] == [token.id for token in alone.tokens]
        assert [t.log_prob for t in transcript.tokens] == pytest.approx([t.log_prob for t in alone.tokens], abs=1e-4)
        assert scores == pytest.approx(pocket.score(clip, base, edits=edits), abs=1e-4)


def test_a_run_leaves_nothing_behind_even_when_it_fails(pocket: oto.SpeechModel) -> None:
    """The modules are shared with whoever calls them next; what a run asked of them ends with the run."""

    class Broken:
        site = "encoder.0.resid_post"

        def reconstruct(self, h: Tensor) -> Tensor:
            raise RuntimeError("broken dictionary")

    clip = noise(2.0)
    mel = pocket.windows(clip)[0].input[None]
    with torch.no_grad():
        before = pocket.module.encode(mel)
        with pytest.raises(RuntimeError, match="broken dictionary"):
            last(pocket, clip, Edit.splice(Broken()))
        last(pocket, clip, Edit.zero("encoder.0.resid_post"))
        assert torch.equal(pocket.module.encode(mel), before)
