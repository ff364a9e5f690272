"""Transcripts: the same tokens as Hugging Face's `generate`, with their probabilities."""

from __future__ import annotations

import math
from pathlib import Path

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
    specials = set(pocket.tokenizer.all_special_ids)
    for clip, transcript in zip(clips, ours, strict=True):
        mel, _ = pocket.mel_windows(clip)
        theirs = plain.generate(mel, language="en", task="transcribe")[0].tolist()
        assert [token.id for token in transcript.tokens] == [token for token in theirs if token not in specials]


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
