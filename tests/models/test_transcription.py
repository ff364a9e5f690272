"""Transcripts of the bundled model: the same tokens as Hugging Face's `generate`, options, long clips, edits."""

from __future__ import annotations

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration

import otoscope as oto
from otoscope.models import Edit
from otoscope.models.generation import is_looped


@pytest.fixture(scope="module")
def clips(pocket: oto.SpeechModel, mini: oto.Corpus) -> list[oto.Clip]:
    window_s = pocket.dims.window_s
    return [clip for clip in mini if clip.text and clip.duration_s <= window_s][:12]


@pytest.fixture(scope="module")
def plain(pocket: oto.SpeechModel) -> WhisperForConditionalGeneration:
    assert pocket.folder is not None
    return WhisperForConditionalGeneration.from_pretrained(pocket.folder, dtype=torch.float32).eval()


def test_tokens_equal_hugging_faces_generate(
    pocket: oto.SpeechModel, plain: WhisperForConditionalGeneration, clips: list[oto.Clip]
) -> None:
    ours = pocket.transcribe(clips, language="en")
    specials = pocket.tokenizer.special_ids
    for clip, transcript in zip(clips, ours, strict=True):
        [window] = pocket.windows(clip)
        theirs = plain.generate(window.input[None], language="en", task="transcribe")[0].tolist()
        assert [token.id for token in transcript.tokens] == [token for token in theirs if token not in specials]


def test_beams_equal_hugging_faces(
    pocket: oto.SpeechModel, plain: WhisperForConditionalGeneration, clips: list[oto.Clip]
) -> None:
    specials = pocket.tokenizer.special_ids
    for clip in clips[:4]:
        [window] = pocket.windows(clip)
        theirs = plain.generate(window.input[None], language="en", task="transcribe", num_beams=5)[0].tolist()
        ours = pocket.transcribe(clip, language="en", beam_size=5)
        assert [token.id for token in ours.tokens] == [token for token in theirs if token not in specials]


def test_texts_with_timestamps_are_still_right(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    plain = pocket.transcribe(clips)
    timed = pocket.transcribe(clips, timestamps=True)
    same = [one.text == other.text for one, other in zip(plain, timed, strict=True)]
    assert sum(same) >= len(clips) - 2
    for clip, transcript in zip(clips, timed, strict=True):
        assert all(0 <= part.start_s < part.end_s <= pocket.dims.window_s for part in transcript.segments)
        marks = [token for token in transcript.tokens if token.start_s is not None]
        assert [token.text for token in marks] == [f"<|{token.start_s:.2f}|>" for token in marks]
        assert len(marks) >= 2
        assert abs(transcript.segments[-1].end_s - clip.tiers["words"][-1].end_s) < 0.6


def test_a_batch_equals_its_clips_one_by_one(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    together = pocket.transcribe(clips)
    alone = [pocket.transcribe(clip) for clip in clips]
    assert [transcript.text for transcript in together] == [transcript.text for transcript in alone]


def test_log_probabilities_are_those_of_the_forced_text(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    transcript = pocket.transcribe(clips[0])
    assert transcript.tokens
    forced = pocket.score(clips[0], transcript)
    assert forced == pytest.approx([token.log_prob for token in transcript.tokens], abs=1e-4)
    assert transcript.avg_log_prob <= 0
    assert "".join(token.text for token in transcript.tokens).strip() == transcript.text


def test_the_right_language_is_detected_or_obeyed(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    assert pocket.transcribe(clips[0]).language == "en"
    assert pocket.transcribe(clips[0], language="EN").language == "en"
    with pytest.raises(oto.InputError, match="does not know the language 'xx'"):
        pocket.transcribe(clips[0], language="xx")


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"langauge": "en"}, "no decoding option 'langauge'; did you mean language"),
        ({"task": "sing"}, "no task 'sing'"),
        ({"temperature": -0.1}, "A temperature is a number from 0"),
        ({"temperature": ()}, "at least one temperature"),
        ({"beam_size": 0}, "beam_size must be at least 1"),
        ({"patience": 2.0}, "belongs to beam search"),
        ({"best_of": 5}, "give a temperature above 0"),
        ({"beam_size": 5, "temperature": 0.5}, "is for temperature 0"),
        ({"length_penalty": 3.0}, "between 0 and 1"),
        ({"suppress_tokens": [99999]}, "suppress_tokens names 99999"),
        ({"initial_prompt": [99999]}, "There is no token 99999"),
        ({"prefix": "we were " * 40}, "leaves no room"),
        ({"word_times": True, "alignment_heads": ((9, 0),)}, "no decoder head (9, 0)"),
        ({"max_initial_timestamp_s": -1.0}, "at least 0 s"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(
    pocket: oto.SpeechModel, clips: list[oto.Clip], choices: dict[str, Any], reason: str
) -> None:
    with pytest.raises(oto.InputError, match=re.escape(reason)):
        pocket.transcribe(clips[0], **choices)


def test_drawn_texts_are_the_same_alone_and_in_a_batch(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    few = clips[:3]
    together = pocket.transcribe(few, temperature=3.0, seed=7)
    assert [t.text for t in together] == [pocket.transcribe(clip, temperature=3.0, seed=7).text for clip in few]
    others = {pocket.transcribe(few[0], temperature=3.0, seed=seed).text for seed in range(6)}
    assert len(others) > 1
    assert pocket.transcribe(few[0], temperature=0.4, best_of=4).text == pocket.transcribe(few[0]).text


def test_entropies_are_those_of_the_distributions_that_tokens_came_from(
    pocket: oto.SpeechModel, clips: list[oto.Clip]
) -> None:
    transcript = pocket.transcribe(clips[0])
    run = pocket.run(clips[0], ["logits"])
    first = next(number for number, position in enumerate(run.positions) if position.kind == "text")
    log_p = run["logits"][first - 1 : -1].log_softmax(-1)
    expected = -(log_p.exp() * log_p).sum(-1)
    assert [token.entropy for token in transcript.tokens] == pytest.approx(expected.tolist(), abs=1e-4)


def test_what_is_read_along_generation_is_the_pass_over_the_generated_text(
    pocket: oto.SpeechModel, clips: list[oto.Clip]
) -> None:
    """Also under edits inside the decoder: the likeliest next token is the one that was generated."""
    for edits in ([], [Edit.scale("decoder.2.mlp.out", 0.5)], [Edit.scale("decoder.1.cross.v", 0.7, time_s=(0.5, 1))]):
        transcript = pocket.transcribe(clips[0], edits=edits)
        run = pocket.run(clips[0], ["logits"], edits)
        read = [position.id for position in run.positions if position.kind == "text"]
        assert read == [token.id for token in transcript.tokens]
        first = len(run.positions) - len(read)
        assert run["logits"][first - 1 : -1].argmax(-1).tolist() == read
        scored = pocket.score(clips[0], transcript, edits=edits)
        assert scored == pytest.approx([token.log_prob for token in transcript.tokens], abs=1e-4)


def test_two_threads_under_different_edits_equal_two_separate_runs(
    pocket: oto.SpeechModel, clips: list[oto.Clip]
) -> None:
    jobs: list[tuple[oto.Clip, list[Edit]]] = [
        (clips[0], []),
        (clips[1], [Edit.scale("decoder.1.resid_post", 1.5), Edit.zero("decoder.2.cross.z[1]")]),
        (clips[0], [Edit.scale("encoder.2.mlp.out", 0.2)]),
    ]
    alone = [pocket.transcribe(clip, edits=edits, beam_size=2) for clip, edits in jobs]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda job: pocket.transcribe(job[0], edits=job[1], beam_size=2), jobs * 3))
    for number, transcript in enumerate(together):
        expected = alone[number % 3]
        assert [(t.id, t.log_prob) for t in transcript.tokens] == [(t.id, t.log_prob) for t in expected.tokens]
    assert len({str(transcript.tokens) for transcript in alone}) == 3


@pytest.mark.parametrize("choices", [{}, {"beam_size": 3}, {"timestamps": True}], ids=["greedy", "beam", "timestamps"])
def test_rows_under_different_edits_equal_separate_runs(
    pocket: oto.SpeechModel, clips: list[oto.Clip], choices: dict[str, Any]
) -> None:
    sweep = [[], [Edit.scale("decoder.1.mlp.out", 3.0)], [Edit.scale("encoder.3.mlp.out", 4.0)]]
    together = pocket.transcribe_each(clips[0], sweep, **choices)
    for edits, transcript in zip(sweep, together, strict=True):
        alone = pocket.transcribe(clips[0], edits=edits, **choices)
        assert [token.id for token in transcript.tokens] == [token.id for token in alone.tokens]
        assert transcript.avg_log_prob == pytest.approx(alone.avg_log_prob, abs=1e-4)
    assert len({round(transcript.avg_log_prob, 4) for transcript in together}) == 3


def test_long_clips_are_read_along_their_timestamps(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    pause = np.zeros(4000, np.float32)
    long = oto.Clip.from_samples(
        np.concatenate([part for clip in clips[:5] for part in (clip.samples(), pause)]), 16000, clip_id="long"
    )
    transcript = pocket.transcribe(long, timestamps=True, condition_on_previous_text=False)
    assert long.duration_s > 2 * pocket.dims.window_s
    starts = [window.start_s for window in transcript.windows]
    assert starts == sorted(set(starts))
    assert [part.start_s for part in transcript.segments] == sorted(part.start_s for part in transcript.segments)
    said = [word for clip in clips[:5] for word in clip.text.split()]
    assert SequenceMatcher(None, said, transcript.text.split()).ratio() > 0.6
    assert json.loads(json.dumps(transcript.to_dict()))["segments"][0]["text"] == transcript.segments[0].text


def test_an_edit_changes_the_transcript_and_random_weights_write_nonsense(
    pocket: oto.SpeechModel, clips: list[oto.Clip]
) -> None:
    texts = [transcript.text for transcript in pocket.transcribe(clips)]
    silenced = pocket.transcribe(clips, edits=[Edit.zero("encoder.ln_post")])
    random = pocket.random_weights(0).transcribe(clips)
    assert all(transcript.text not in texts for transcript in silenced)
    assert all(transcript.text not in texts for transcript in random)


def test_long_clips_are_written_down_window_by_window(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    size = pocket.dims.window_samples
    padded = [np.pad(clip.samples(), (0, size - len(clip.samples()))) for clip in clips[:3]]
    long = oto.Clip.from_samples(np.concatenate(padded), 16000, clip_id="long")
    parts = pocket.transcribe([oto.Clip.from_samples(part, 16000) for part in padded])
    whole = pocket.transcribe(long)
    assert whole.text == " ".join(part.text for part in parts)
    assert [token.window for token in whole.tokens] == [
        number for number, part in enumerate(parts) for _ in part.tokens
    ]
    assert pocket.score(long, whole) == pytest.approx([token.log_prob for token in whole.tokens], abs=1e-4)


def test_loops_are_reported() -> None:
    assert is_looped([1, 2, 3, *[7, 8] * 6])
    assert is_looped([5] * 6)
    assert not is_looped([1, 2, 3, *[7, 8] * 5])
    assert not is_looped([])


def test_a_text_cut_at_the_models_limit_is_reported(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    written = [pocket.random_weights(seed).transcribe(clips[0]) for seed in range(3)]
    for transcript in written:
        full = len(transcript.tokens) + 4 >= pocket.dims.n_text_positions
        assert transcript.truncated == full
        assert math.isfinite(transcript.avg_log_prob)


def test_transcribing_leaves_the_global_random_state_alone(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    before = torch.get_rng_state()
    pocket.random_weights(3).transcribe(clips[0])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.shared
def test_real_digits_get_an_answer(pocket: oto.SpeechModel, shared: Path) -> None:
    digits = oto.corpus(shared / "data" / "digits")
    answers = pocket.transcribe([digits[number] for number in range(10)])
    assert len(answers) == 10
    assert any(answer.text for answer in answers)
