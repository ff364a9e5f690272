"""log_mel equals openai-whisper's to 1e-5, padding included, for any sound and length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import whisper.audio as openai
from hypothesis import given
from hypothesis import strategies as st

from otoscope.audio import decode, log_mel, mel_filters
from otoscope.audio import mel as mel_module
from otoscope.errors import InputError

WINDOW = 480000
TOLERANCE = 1e-5


def theirs(samples: np.ndarray, n_mels: int, total: int | None = None) -> torch.Tensor:
    padding = 0 if total is None else total - len(samples)
    return openai.log_mel_spectrogram(torch.tensor(samples), n_mels, padding=padding)


Speechlike = Callable[..., np.ndarray]


def sounds(n: int, speechlike: Speechlike) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    time_s = np.arange(n) / 16000
    made = {
        "noise": rng.standard_normal(n) * 0.1,
        "speech-like": speechlike(n),
        "tone that fades out of float32's range": np.sin(2 * np.pi * 1000 * time_s) * np.exp(-200 * time_s),
        "click": np.eye(1, n, n // 2)[0],
        "last sample": np.eye(1, n, n - 1)[0],
        "silence": np.zeros(n),
        "faint": rng.standard_normal(n) * 1e-6,
    }
    return {name: samples.astype(np.float32) for name, samples in made.items()}


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_are_openais(n_mels: int) -> None:
    expected = openai.mel_filters("cpu", n_mels).numpy()
    np.testing.assert_allclose(mel_filters(n_mels), expected, atol=1e-8)


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("n", [201, 400, 16123, 479801, WINDOW])
def test_equal_to_openai_whisper(speechlike: Speechlike, n: int, n_mels: int) -> None:
    for name, samples in sounds(n, speechlike).items():
        for total in (None, WINDOW, n + 160, n + 199):
            ours, expected = log_mel(samples, n_mels, pad_to_samples=total), None
            if total is None or total >= n:
                expected = theirs(samples, n_mels, total)
            assert expected is not None
            assert ours.shape == expected.shape
            assert (ours - expected).abs().max() <= TOLERANCE, (name, total)


@given(st.integers(1, 30000), st.integers(0, 40000), st.integers(0, 2**32 - 1))
def test_equal_for_any_length_and_padding(n: int, padding: int, seed: int) -> None:
    samples = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    total = max(n + padding, 201)
    difference = log_mel(samples, pad_to_samples=total) - theirs(samples, 80, total)
    assert difference.abs().max() <= TOLERANCE


def test_a_batch_is_its_clips_one_by_one(speechlike: Speechlike) -> None:
    loud, faint = speechlike(8000), 1e-3 * speechlike(8000, seed=1)
    batch = log_mel(np.stack([loud, faint]), pad_to_samples=WINDOW)
    assert batch.shape == (2, 80, 3000)
    for row, samples in zip(batch, (loud, faint), strict=True):
        torch.testing.assert_close(row, log_mel(samples, pad_to_samples=WINDOW), atol=1e-6, rtol=0)


def test_real_speech_is_equal_too(shared: Path) -> None:
    samples = decode(shared / "data" / "speech" / "jfk.flac")
    for n_mels in (80, 128):
        difference = log_mel(samples, n_mels, pad_to_samples=WINDOW) - theirs(samples, n_mels, WINDOW)
        assert difference.abs().max() <= TOLERANCE


@pytest.mark.parametrize("n_mels", [80, 128])
def test_a_spectrogram_is_made_on_the_device_asked_for(speechlike: Speechlike, n_mels: int) -> None:
    samples = speechlike(16000)
    for device in ("cpu", torch.device("cpu")):
        assert torch.equal(log_mel(samples, n_mels, device=device), log_mel(samples, n_mels))
    for shape in ((16000,), (2, 16000)):  # a step that fell back to another device would fail on this one
        made = log_mel(torch.zeros(shape), n_mels, pad_to_samples=WINDOW, device="meta")
        assert made.device.type == "meta"
        assert made.shape == (*shape[:-1], n_mels, 3000)


def test_another_window_would_be_noticed(speechlike: Speechlike, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = speechlike(WINDOW)
    right = log_mel(samples)
    monkeypatch.setattr("torch.hann_window", torch.hamming_window)
    mel_module._constants.cache_clear()
    try:
        assert (log_mel(samples) - right).abs().max() > 100 * TOLERANCE
    finally:
        mel_module._constants.cache_clear()


def test_sound_that_makes_no_frame_is_refused() -> None:
    with pytest.raises(InputError, match="too few for a mel frame"):
        log_mel(np.zeros(100, np.float32))
    with pytest.raises(InputError, match="do not fit"):
        log_mel(np.zeros(500, np.float32), pad_to_samples=400)
    with pytest.raises(InputError, match="n_mels must be between"):
        log_mel(np.zeros(500, np.float32), 0)
    with pytest.raises(InputError, match="shape"):
        log_mel(np.zeros((1, 2, 500), np.float32))
