"""What can be heard in every frame of a clip without any label: four acoustic measures, in float32 and one pass.

The measures are those of `otoscope.evaluation.acoustics`, which is the reference: the same windows, bands and costs.
"""

from __future__ import annotations

import functools
import itertools

import numba
import numpy as np
import numpy.typing as npt
import torch

from otoscope.audio import Clip
from otoscope.audio.decoding import SAMPLE_RATE_HZ
from otoscope.evaluation.acoustics import (
    MAX_F0_HZ,
    MIN_F0_HZ,
    N_FFT,
    NOISE_POWER,
    OCTAVE_COST,
    TILT_BAND_HZ,
    VOICED,
    WINDOW,
)
from otoscope.models import Clock

MEASURES = ("energy_db", "tilt_db", "voicing", "f0_hz")
"""Columns of `measures`: see `otoscope.evaluation.acoustics.Acoustics`; f0 is NaN where nothing is voiced."""
_BLOCK = 128  # frames analysed at a time, so that the work stays in the cache
_LOWEST, _HIGHEST = int(SAMPLE_RATE_HZ / MAX_F0_HZ), int(np.ceil(SAMPLE_RATE_HZ / MIN_F0_HZ))

Floats = npt.NDArray[np.float32]


def frame_measures(clip: Clip, clock: Clock, n_frames: int) -> Floats:
    """Return the measures `[t, 4]` of a clip's frames; beyond the recording there is silence."""
    samples = clip.samples()
    padded = np.zeros(len(samples) + 2 * WINDOW, dtype=np.float32)
    padded[WINDOW : WINDOW + len(samples)] = samples
    times_s = np.arange(n_frames) * clock.frame_s + clock.offset_s
    first = np.round(times_s * SAMPLE_RATE_HZ).astype(np.int64) + WINDOW - WINDOW // 2
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)
    starts = np.clip(first, 0, len(windows) - 1)
    found = np.empty((n_frames, len(MEASURES)), dtype=np.float32)
    with torch.inference_mode():
        for at in range(0, n_frames, _BLOCK):
            _analyse(torch.from_numpy(windows[starts[at : at + _BLOCK]]), found[at : at + _BLOCK])
    return found


@functools.cache
def _constants() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Floats]:
    """Return the window `[WINDOW]`, the averages over third octaves `[bin, band]`, the weights `[band]` of a
    least-squares slope over them, and what undoes the window in the autocorrelation `[lag]`."""
    window = np.hanning(WINDOW + 1)[:WINDOW]
    n_edges = int(3 * np.log2(TILT_BAND_HZ[1] / TILT_BAND_HZ[0])) + 1
    edges_hz = TILT_BAND_HZ[0] * 2 ** (np.arange(n_edges) / 3)
    bins = np.searchsorted(np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE_HZ), edges_hz)
    bands = np.zeros((N_FFT // 2 + 1, n_edges - 1), dtype=np.float32)
    for band, (low, high) in enumerate(itertools.pairwise(bins)):
        bands[low:high, band] = 1 / (high - low)
    octave = np.arange(n_edges - 1) / 3
    slope = (octave - octave.mean()) / np.square(octave - octave.mean()).sum()
    of_window = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, N_FFT))), N_FFT)
    undo = of_window[0] / of_window[: _HIGHEST + 2]
    as_tensors = [torch.from_numpy(np.asarray(each, dtype=np.float32)) for each in (window, bands, slope)]
    return as_tensors[0], as_tensors[1], as_tensors[2], undo.astype(np.float32)


def _analyse(pieces: torch.Tensor, out: Floats) -> None:
    """Write the measures of windows `[t, WINDOW]` to `out` `[t, 4]`.

    The autocorrelation comes from every second bin of the power spectrum: its lags then repeat after `N_FFT / 2`, and
    what falls on the longest of interest are lags of over 750 samples, which the window has faded out.
    """
    window, bands, slope, undo = _constants()
    pieces = (pieces - pieces.mean(dim=1, keepdim=True)) * window
    energy = pieces.square().sum(dim=1) / window.square().sum()
    spectrum = torch.fft.rfft(torch.nn.functional.pad(pieces, (0, N_FFT - WINDOW)))
    power = spectrum.real.square().add_(spectrum.imag.square())
    level = (power @ bands).add_(NOISE_POWER * WINDOW).log10_()
    out[:, 0] = energy.add_(NOISE_POWER).log10_().mul_(10).numpy()
    out[:, 1] = (level @ slope).mul_(10).numpy()
    own = torch.fft.irfft(power[:, ::2].to(torch.complex64), N_FFT // 2)
    noise = NOISE_POWER * float(window.square().sum())
    _pitch(own.numpy(), undo, np.float32(noise), out[:, 2:])


@numba.njit(cache=True, nogil=True)
def _pitch(own, undo, noise, out):  # type: ignore[no-untyped-def]
    """Height and frequency of the best peak of each autocorrelation, by parabolas through three lags."""
    r = np.empty(_HIGHEST + 2, dtype=np.float32)
    for t in range(len(own)):
        total = own[t, 0] + noise
        for lag in range(_LOWEST - 1, _HIGHEST + 2):
            r[lag] = own[t, lag] / total * undo[lag]
        best, preferred = -1, -np.inf
        for lag in range(_LOWEST, _HIGHEST + 1):
            if r[lag] >= r[lag - 1] and r[lag] > r[lag + 1]:
                value = r[lag] - OCTAVE_COST * np.log2(lag / _LOWEST)
                if value > preferred:
                    best, preferred = lag, value
        out[t, 0], out[t, 1] = 0.0, np.nan
        if best >= 0:
            a, b, c = r[best - 1], r[best], r[best + 1]
            shift = (a - c) / (2 * (a - 2 * b + c))
            out[t, 0] = min(max(b - (a - c) * shift / 4, 0.0), 1.0)
            if out[t, 0] >= VOICED:
                out[t, 1] = SAMPLE_RATE_HZ / (best + shift)
