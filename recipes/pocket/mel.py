"""Whisper's log-mel spectrum in NumPy, split where augmentation wants it: raw log10 power, then normalisation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from transformers.audio_utils import mel_filter_bank

SAMPLE_RATE, N_FFT, HOP, N_MELS = 16_000, 400, 160, 80
FLOOR = -10.0  # log10 of the smallest power Whisper lets through; what zero padding becomes


@lru_cache(maxsize=1)
def _filters() -> np.ndarray:
    return mel_filter_bank(N_FFT // 2 + 1, N_MELS, 0.0, 8000.0, SAMPLE_RATE, norm="slaney", mel_scale="slaney").astype(
        np.float32
    )


@lru_cache(maxsize=1)
def centre_hz() -> np.ndarray:
    """Centre frequency of each mel band, [80] Hz."""
    filters = _filters()
    return (filters * np.linspace(0, 8000, filters.shape[0])[:, None]).sum(0) / filters.sum(0)


def log_power(audio: np.ndarray) -> np.ndarray:
    """log10 mel power of 16 kHz audio, [samples // 160, 80]; no clamp to the loudest frame yet."""
    padded = np.pad(audio, N_FFT // 2, mode="reflect" if len(audio) > N_FFT // 2 else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][: len(audio) // HOP]
    window = np.hanning(N_FFT + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=-1)).astype(np.float32) ** 2
    return np.log10(np.maximum(power @ _filters(), 1e-10))


def normalise(log10_power: np.ndarray) -> np.ndarray:
    """Whisper's dynamic range of 8 (80 dB) below the loudest point, scaled to about -1 to 1."""
    return (np.maximum(log10_power, log10_power.max() - 8.0) + 4.0) / 4.0
