"""Generation is openai-whisper's: the same tokens, probabilities, segments and word times from the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import whisper
from talkative_twins import N_TOKENS, TalkativeTwins, make_talkative_twins
from whisper.tokenizer import get_tokenizer

import otoscope as oto
from otoscope.models import Transcript
from otoscope.models.generation import DecodingOptions, RowEdits, WindowDecoder, encode, word_times
from otoscope.models.generation.listening import Heard


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """openai-whisper's path through a matrix in plain Python: compiling it takes half a minute."""
    for name in ("dtw_cpu", "backtrace"):
        compiled = getattr(whisper.timing, name)
        monkeypatch.setattr(whisper.timing, name, getattr(compiled, "py_func", compiled))


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> TalkativeTwins:
    return make_talkative_twins(tmp_path_factory.mktemp("talkative"))


def decoder_of(model: oto.SpeechModel, **choices: Any) -> WindowDecoder:
    assert model.tokenizer is not None
    return WindowDecoder(model.module, model.tokenizer, model.rules, DecodingOptions(**choices))


WINDOWS = {
    "greedy": ({"without_timestamps": True}, {}),
    "timestamps": ({}, {"timestamps": True}),
    "late start": ({"max_initial_timestamp": None}, {"timestamps": True, "max_initial_timestamp_s": None}),
    "prompt": ({"prompt": "Hello, dear reader"}, {"timestamps": True, "initial_prompt": "Hello, dear reader"}),
    "prefix": ({"prefix": "Well"}, {"timestamps": True, "prefix": "Well"}),
    "beam": ({"beam_size": 5, "without_timestamps": True}, {"beam_size": 5}),
    "beam with timestamps": (
        {"beam_size": 5, "patience": 1.6, "length_penalty": 0.6},
        {"timestamps": True, "beam_size": 5, "patience": 1.6, "length_penalty": 0.6},
    ),
    "translate": ({"language": "de", "task": "translate"}, {"timestamps": True, "language": "de", "task": "translate"}),
    "suppressed": (
        {"suppress_tokens": [-1, 15868], "suppress_blank": False},
        {"timestamps": True, "suppress_tokens": [-1, 15868], "suppress_blank": False},
    ),
    "detected": ({"language": None}, {"timestamps": True, "language": None}),
}


@pytest.mark.parametrize(("theirs", "ours"), WINDOWS.values(), ids=WINDOWS)
def test_a_window_is_decoded_as_by_openai_whisper(
    twins: TalkativeTwins, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    options = whisper.DecodingOptions(**{"language": "en", "fp16": False, "sample_len": N_TOKENS, **theirs})
    expected = twins.openai.decode(twins.mel, options)
    decoder = decoder_of(twins.ours, **{"language": "en", "max_tokens": N_TOKENS, **ours})
    encoded = encode(twins.ours, [Heard(twins.mel, 0.0, 30.0)], RowEdits())
    [found] = decoder(encoded, before=[decoder.initial_prompt])
    assert [token.id for token in found.tokens] == expected.tokens
    assert len(set(expected.tokens)) > 3
    assert found.language == expected.language
    assert found.avg_log_prob == pytest.approx(expected.avg_logprob, abs=1e-4)
    assert found.no_speech_prob == pytest.approx(expected.no_speech_prob, rel=1e-2, abs=1e-9)
    assert found.compression_ratio == pytest.approx(expected.compression_ratio, abs=1e-4)


def test_another_prompt_gives_another_text(twins: TalkativeTwins) -> None:
    encoded = encode(twins.ours, [Heard(twins.mel, 0.0, 30.0)], RowEdits())
    decoder = decoder_of(twins.ours, language="en", max_tokens=N_TOKENS)
    texts = {tuple(token.id for token in decoder(encoded, before=[before])[0].tokens) for before in ((), (400, 500))}
    assert len(texts) == 2


def test_languages_are_as_likely_as_openai_whisper_finds(twins: TalkativeTwins) -> None:
    token, expected = twins.openai.detect_language(twins.mel)
    encoded = encode(twins.ours, [Heard(twins.mel, 0.0, 30.0)], RowEdits())
    tokens, [found] = decoder_of(twins.ours).languages(encoded, RowEdits())
    assert tokens == [token.item()]
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(found) == 99


def compare(ours: Transcript, theirs: dict[str, Any]) -> None:
    expected = [segment for segment in theirs["segments"] if segment["text"]]
    assert [[token.id for token in segment.tokens] for segment in ours.segments] == [s["tokens"] for s in expected]
    assert [segment.text for segment in ours.segments] == [segment["text"] for segment in expected]
    for found, segment in zip(ours.segments, expected, strict=True):
        assert (found.start_s, found.end_s) == pytest.approx((segment["start"], segment["end"]), abs=1e-6)
        assert found.temperature == segment["temperature"]
        assert found.avg_log_prob == pytest.approx(segment["avg_logprob"], abs=1e-4)
        assert found.compression_ratio == pytest.approx(segment["compression_ratio"], abs=1e-4)
        assert found.no_speech_prob == pytest.approx(segment["no_speech_prob"], rel=1e-2, abs=1e-9)
    assert ours.text == theirs["text"].strip()
    assert ours.language == theirs["language"]


NEVER = {"logprob_threshold": None, "compression_ratio_threshold": None}
# so cold that a draw is the likeliest token, in both packages
COLD = {"temperature": (0.0, 1e-6, 2e-6), "compression_ratio_threshold": 6.0}
LONG = {
    "plain": {"temperature": 0.0},
    "fallback": COLD,
    "alone": {"temperature": 0.0, "condition_on_previous_text": False, "language": "en"},
    "prompted": {"temperature": 0.0, "initial_prompt": "Hello", "beam_size": 2, "task": "translate", **NEVER},
    "silent": {"temperature": 0.0, "no_speech_threshold": 0.0, "logprob_threshold": -0.25},
}


@pytest.mark.parametrize("choices", LONG.values(), ids=LONG)
def test_a_long_recording_is_read_as_by_openai_whisper(twins: TalkativeTwins, choices: dict[str, Any]) -> None:
    theirs = whisper.transcribe(twins.openai, twins.samples, fp16=False, sample_len=N_TOKENS, **choices)
    ours = twins.ours.transcribe(twins.clip, timestamps=True, max_tokens=N_TOKENS, **choices)
    compare(ours, theirs)
    assert len(theirs["segments"]) > 1
    assert len({segment["seek"] for segment in theirs["segments"]}) > 1
    forced = twins.ours.score(twins.clip, ours)
    assert forced == pytest.approx([token.log_prob for token in ours.tokens], abs=1e-3)


def test_some_windows_fall_back_and_others_do_not(twins: TalkativeTwins) -> None:
    ours = twins.ours.transcribe(twins.clip, timestamps=True, max_tokens=N_TOKENS, **COLD)
    assert len({window.temperature for window in ours.windows}) > 1


@pytest.mark.parametrize("language", ["en", "ja"])
def test_word_times_are_openai_whispers(twins: TalkativeTwins, language: str) -> None:
    choices = {"temperature": 0.0, "language": language}
    theirs = whisper.transcribe(
        twins.openai, twins.samples, fp16=False, sample_len=N_TOKENS, word_timestamps=True, **choices
    )
    ours = twins.ours.transcribe(twins.clip, timestamps=True, max_tokens=N_TOKENS, word_times=True, **choices)
    compare(ours, theirs)
    expected = [word for segment in theirs["segments"] for word in segment["words"]]
    assert [word.word for word in ours.words] == [word["word"] for word in expected]
    assert len(expected) > 20
    for found, word in zip(ours.words, expected, strict=True):
        assert (found.start_s, found.end_s) == pytest.approx((word["start"], word["end"]), abs=0.02)
        assert found.probability == pytest.approx(word["probability"], abs=1e-4)


def test_a_forced_text_is_aligned_as_by_find_alignment(twins: TalkativeTwins) -> None:
    text = "“Well”, said the (old) man; don't go there!"
    tokenizer = get_tokenizer(True, num_languages=99, language="en", task="transcribe")
    clip = oto.Clip.from_samples(twins.samples[:112000], 16000)
    mel = whisper.log_mel_spectrogram(twins.samples[:112000], padding=480000 - 112000)
    expected = whisper.timing.find_alignment(twins.openai, tokenizer, tokenizer.encode(" " + text), mel, 700)
    whisper.timing.merge_punctuations(expected, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")
    ours = word_times(twins.ours, clip, text, language="en")
    kept = [word for word in expected if word.word]
    assert [word.word for word in ours] == [word.word for word in kept]
    assert [word.start_s for word in ours] == pytest.approx([float(word.start) for word in kept], abs=0.02)
    assert [word.end_s for word in ours] == pytest.approx([float(word.end) for word in kept], abs=0.02)
    others = word_times(twins.ours, clip, text, heads=[(0, 1)], language="en")
    assert [word.start_s for word in others] != [word.start_s for word in ours]
