"""What can be heard in every frame of a clip without any label: four acoustic measures, in float32 and one pass.

The measures are those of `otoscope.evaluation.acoustics`, which is the reference: the same windows, bands and costs.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

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
INAUDIBLE = np.float32(1e-10)
"""Samples nearer to 0 than this (−200 dB of full scale) count as 0: what fades out in lossy formats ends in numbers
so small that processors take many times as long for them."""
_BLOCK = 64  # frames analysed at a time, so that the work stays in the cache
_HALF = N_FFT // 2
_LOWEST, _HIGHEST = int(SAMPLE_RATE_HZ / MAX_F0_HZ), int(np.ceil(SAMPLE_RATE_HZ / MIN_F0_HZ))

Floats = npt.NDArray[np.float32]


def frame_measures(clip: Clip, clock: Clock, n_frames: int) -> Floats:
    """Return the measures `[t, 4]` of a clip's frames; beyond the recording there is silence."""
    samples = clip.samples()
    padded = np.zeros(len(samples) + 2 * WINDOW, dtype=np.float32)
    padded[WINDOW : WINDOW + len(samples)] = np.where(np.abs(samples) < INAUDIBLE, 0, samples)
    times_s = np.arange(n_frames) * clock.frame_s + clock.offset_s
    first = np.round(times_s * SAMPLE_RATE_HZ).astype(np.int64) + WINDOW - WINDOW // 2
    starts = np.clip(first, 0, len(padded) - WINDOW)
    found = np.empty((n_frames, len(MEASURES)), dtype=np.float32)
    level = np.empty((n_frames, len(_constants().slope)), dtype=np.float32)
    memory = np.zeros((_BLOCK, N_FFT), np.float32), np.zeros((_BLOCK, _HALF + 2), np.float32)
    with torch.inference_mode():
        for at in range(0, n_frames, _BLOCK):
            block = slice(at, at + _BLOCK)
            _analyse(padded, starts[block], *memory, found[block], level[block])
    found[:, 0] = 10 * np.log10(found[:, 0] / _constants().energy + np.float32(NOISE_POWER))
    found[:, 1] = (np.log10(level + np.float32(NOISE_POWER * WINDOW)) * _constants().slope).sum(axis=1)
    return found


class _Constants(NamedTuple):
    """What all clips share.

    Attributes:
        window: `[WINDOW]`.
        turns: cosine and sine `[2, _HALF // 2 + 1]` of the angles that put a transform together from its halves.
        bins: where third octaves begin and end, `[bands + 1]`.
        slope: weights `[bands]` of a least-squares slope over logs of power, in dB per octave.
        undo: what undoes the window in the autocorrelation, `[lag]`.
        cost: what each lag loses for being that many octaves lower than the highest pitch, `[lag]`.
        energy: sum of the window's squares.
    """

    window: Floats
    turns: Floats
    bins: npt.NDArray[np.int64]
    slope: Floats
    undo: Floats
    cost: npt.NDArray[np.float64]
    energy: np.float32


@functools.cache
def _constants() -> _Constants:
    window = np.hanning(WINDOW + 1)[:WINDOW]
    n_edges = int(3 * np.log2(TILT_BAND_HZ[1] / TILT_BAND_HZ[0])) + 1
    edges_hz = TILT_BAND_HZ[0] * 2 ** (np.arange(n_edges) / 3)
    bins = np.searchsorted(np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE_HZ), edges_hz)
    octave = np.arange(n_edges - 1) / 3
    slope = 10 * (octave - octave.mean()) / np.square(octave - octave.mean()).sum()
    of_window = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, N_FFT))), N_FFT)
    undo = of_window[0] / of_window[: _HIGHEST + 2]
    angle = 2 * np.pi / N_FFT * np.arange(_HALF // 2 + 1)
    return _Constants(
        window=window.astype(np.float32),
        turns=np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32),
        bins=bins,
        slope=slope.astype(np.float32),
        undo=undo.astype(np.float32),
        cost=OCTAVE_COST * np.log2(np.maximum(np.arange(_HIGHEST + 2), 1) / _LOWEST),
        energy=np.float32(np.square(window).sum()),
    )


def _analyse(
    padded: Floats, starts: npt.NDArray[np.int64], pieces: Floats, power: Floats, out: Floats, level: Floats
) -> None:
    """Write energy, voicing and f0 of the windows that begin at `starts` `[t]` to columns 0, 2 and 3 of `out`, and
    their mean power in each third octave to `level` `[t, bands]`.

    `pieces` and `power`, zeros at first, take in what lies between: windows, and every second bin of their power.

    Even and odd samples are transformed as the real and imaginary parts of half as many complex numbers. The
    autocorrelation comes from every second bin of the power spectrum: its lags then repeat after `N_FFT / 2`, and
    what falls on the longest of interest are lags of over 750 samples, which the window has faded out.
    """
    constants = _constants()
    pieces, power = pieces[: len(starts)], power[: len(starts)]
    _cut(padded, starts, constants.window, pieces, out)
    halves = torch.fft.fft(torch.from_numpy(pieces.view(np.complex64))).numpy().view(np.float32)
    _powers(halves, constants.turns, constants.bins, level, power)
    own = torch.fft.irfft(torch.from_numpy(power.view(np.complex64)), _HALF).numpy()
    noise = np.float32(NOISE_POWER) * constants.energy
    _pitch(own, constants.undo, constants.cost, noise, out)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _cut(padded, starts, window, pieces, out):  # type: ignore[no-untyped-def]
    """Write windows without their mean to the front of `pieces`, their energies to column 0 of `out`."""
    for t in range(len(starts)):
        sound, piece = padded[starts[t] : starts[t] + WINDOW], pieces[t]
        mean = np.float32(0)
        for i in range(WINDOW):
            mean += sound[i]
        mean /= np.float32(WINDOW)
        energy = np.float32(0)
        for i in range(WINDOW):
            value = (sound[i] - mean) * window[i]
            piece[i] = value
            energy += value * value
        out[t, 0] = energy


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _powers(halves, turns, bins, level, every_second):  # type: ignore[no-untyped-def]
    """Put spectra together from the transforms of even and odd samples; write their power, by bands and by bins."""
    half, cosine, sine = np.float32(0.5), turns[0], turns[1]
    low, high = np.empty((2, _HALF // 2 + 1), dtype=np.float32)  # what is written apart is computed many at a time
    power = np.empty(_HALF + 1, dtype=np.float32)
    for t in range(len(halves)):
        found = halves[t]
        for k in range(1, _HALF // 2 + 1):
            a, b, c, d = found[2 * k], found[2 * k + 1], found[2 * (_HALF - k)], found[2 * (_HALF - k) + 1]
            even_real, even_imaginary, x, y = half * (a + c), half * (b - d), half * (b + d), half * (a - c)
            odd_real, odd_imaginary = x * cosine[k] - y * sine[k], y * cosine[k] + x * sine[k]
            real, imaginary = even_real + odd_real, even_imaginary - odd_imaginary
            low[k] = real * real + imaginary * imaginary
            real, imaginary = even_real - odd_real, even_imaginary + odd_imaginary
            high[k] = real * real + imaginary * imaginary
        low[0], high[0] = (found[0] + found[1]) ** 2, (found[0] - found[1]) ** 2
        for k in range(_HALF // 2 + 1):
            power[_HALF - k] = high[k]
        for k in range(_HALF // 2 + 1):
            power[k] = low[k]
        for band in range(len(bins) - 1):
            in_band = np.float32(0)
            for k in range(bins[band], bins[band + 1]):
                in_band += power[k]
            level[t, band] = in_band / np.float32(bins[band + 1] - bins[band])
        real_parts = every_second[t]
        for k in range(_HALF // 2 + 1):
            real_parts[2 * k] = power[2 * k]


@numba.njit(cache=True, nogil=True)
def _pitch(own, undo, cost, noise, out):  # type: ignore[no-untyped-def]
    """Height and frequency of the best peak of each autocorrelation, by parabolas through three lags."""
    r = np.empty(_HIGHEST + 2, dtype=np.float32)
    for t in range(len(own)):
        total = own[t, 0] + noise
        for lag in range(_LOWEST - 1, _HIGHEST + 2):
            r[lag] = own[t, lag] / total * undo[lag]
        best, preferred = -1, -np.inf
        for lag in range(_LOWEST, _HIGHEST + 1):
            value = r[lag] - cost[lag]
            if value > preferred and r[lag] >= r[lag - 1] and r[lag] > r[lag + 1]:
                best, preferred = lag, value
        out[t, 2], out[t, 3] = 0.0, np.nan
        if best >= 0:
            a, b, c = r[best - 1], r[best], r[best + 1]
            shift = (a - c) / (2 * (a - 2 * b + c))
            out[t, 2] = min(max(b - (a - c) * shift / 4, 0.0), 1.0)
            if out[t, 2] >= VOICED:
                out[t, 3] = SAMPLE_RATE_HZ / (best + shift)
