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
_BLOCK = 48  # frames analysed at a time, so that the work stays in the cache
_HALF, _QUARTER, _EIGHTH = N_FFT // 2, N_FFT // 4, N_FFT // 8
_LOWEST, _HIGHEST = int(SAMPLE_RATE_HZ / MAX_F0_HZ), int(np.ceil(SAMPLE_RATE_HZ / MIN_F0_HZ))

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


def frame_measures(clip: Clip, clock: Clock, n_frames: int) -> Floats:
    """Return the measures `[t, 4]` of a clip's frames; beyond the recording there is silence."""
    samples = clip.samples()
    times_s = np.arange(n_frames) * clock.frame_s + clock.offset_s
    starts = np.round(times_s * SAMPLE_RATE_HZ).astype(np.int64) - WINDOW // 2
    found = np.empty((n_frames, len(MEASURES)), dtype=np.float32)
    level = np.empty((n_frames, len(_constants().slope)), dtype=np.float32)
    memory = _memory()
    with torch.inference_mode():
        for at in range(0, n_frames, _BLOCK):
            block = slice(at, at + _BLOCK)
            _analyse(samples, starts[block], memory, found[block], level[block])
    found[:, 0] = 10 * np.log10(found[:, 0] / _constants().energy + np.float32(NOISE_POWER))
    found[:, 1] = (np.log10(level + np.float32(NOISE_POWER * WINDOW)) * _constants().slope).sum(axis=1)
    return found


class _Memory(NamedTuple):
    """What the steps of a block hand on; each block writes over the one before.

    Attributes:
        pieces: what is transformed `[t, 2, N_FFT / 2]`: for even bins, with zeros behind that stay, and for odd.
        folded: power `[t, N_FFT / 4]`, the input of the transform that yields the autocorrelation.
        first: the autocorrelation `[t]` at lag 1, times `N_FFT / 2`.
    """

    pieces: Floats
    folded: Floats
    first: Floats


def _memory() -> _Memory:
    return _Memory(
        pieces=np.zeros((_BLOCK, 2, _HALF), dtype=np.float32),
        folded=np.empty((_BLOCK, _QUARTER), dtype=np.float32),
        first=np.empty(_BLOCK, dtype=np.float32),
    )


class _Constants(NamedTuple):
    """What all clips share.

    Attributes:
        window: `[WINDOW]`.
        turns: cosine and sine `[2, N_FFT / 4]` of the angles that turn sound by half a bin, so that odd bins are heard.
        joints: cosine and sine `[2, N_FFT / 8 + 1]` of the angles that put even bins together from their halves.
        bins: where third octaves begin and end, `[bands + 1]`.
        slope: weights `[bands]` of a least-squares slope over logs of power, in dB per octave.
        undo: what undoes the window in the autocorrelation, `[lag]`.
        cost: what each lag loses for being that many octaves lower than the highest pitch, `[lag]`.
        energy: sum of the window's squares.
    """

    window: Floats
    turns: Floats
    joints: Floats
    bins: Counts
    slope: Floats
    undo: Floats
    cost: Floats
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
    step = 2 * np.pi / N_FFT
    return _Constants(
        window=window.astype(np.float32),
        turns=_cosine_and_sine(step * np.arange(_QUARTER)),
        joints=_cosine_and_sine(2 * step * np.arange(_EIGHTH + 1)),
        bins=bins,
        slope=slope.astype(np.float32),
        undo=undo.astype(np.float32),
        cost=(OCTAVE_COST * np.log2(np.maximum(np.arange(_HIGHEST + 2), 1) / _LOWEST)).astype(np.float32),
        energy=np.float32(np.square(window).sum()),
    )


def _cosine_and_sine(angle: npt.NDArray[np.floating]) -> Floats:
    return np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


def _analyse(samples: Floats, starts: Counts, memory: _Memory, out: Floats, level: Floats) -> None:
    """Write energy, voicing and f0 of the windows that begin at `starts` `[t]` to columns 0, 2 and 3 of `out`, and
    their mean power in each third octave to `level` `[t, bands]`.

    Two transforms of `N_FFT / 4` complex numbers yield the spectrum. For even bins, even and odd samples are their real
    and imaginary parts; for odd bins, samples that lie `N_FFT / 4` apart are, turned by half a bin.

    The autocorrelation comes from the even bins alone: its lags then repeat after `N_FFT / 2`, and what falls on the
    longest of interest are lags of over 750 samples, which the window has faded out. A spectrum of power is real and
    even, so that a real transform of half its length is enough (a cosine transform, as FFTPACK's `cost`).
    """
    constants = _constants()
    pieces, folded, first = (each[: len(starts)] for each in memory)
    _cut(samples, starts, constants.window, constants.turns, pieces, out)
    halves = torch.fft.fft(torch.from_numpy(pieces.view(np.complex64))).numpy().view(np.float32)
    _powers(halves, constants.joints, constants.bins, level, folded, first)
    own = torch.fft.rfft(torch.from_numpy(folded)).numpy().view(np.float32)
    noise = np.float32(NOISE_POWER * _HALF) * constants.energy
    _pitch(own, first, constants.undo, constants.cost, noise, out)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _cut(samples, starts, window, turns, pieces, out):  # type: ignore[no-untyped-def]
    """Write windows without their mean to `pieces`, ready for the transforms, and energies to column 0 of `out`."""
    half, sound = np.float32(0.5), np.zeros(_HALF, dtype=np.float32)
    for t in range(len(starts)):
        first = max(0, min(WINDOW, -starts[t]))  # what lies before the recording, and below what lies behind it
        end = max(first, min(WINDOW, len(samples) - starts[t]))
        sound[:first], sound[end:WINDOW] = 0, 0
        here = samples[max(0, starts[t]) :]
        mean = np.float32(0)
        for i in range(end - first):
            value = here[i] if abs(here[i]) >= INAUDIBLE else np.float32(0)
            sound[first + i] = value
            mean += value
        mean /= np.float32(WINDOW)
        energy = np.float32(0)
        even, odd = pieces[t, 0], pieces[t, 1]
        for i in range(WINDOW):
            value = (sound[i] - mean) * window[i]
            sound[i] = value
            even[i] = half * value
            energy += value * value
        for i in range(_QUARTER):
            a, b = sound[i], sound[_QUARTER + i]
            odd[2 * i] = a * turns[0, i] - b * turns[1, i]
            odd[2 * i + 1] = -(a * turns[1, i] + b * turns[0, i])
        out[t, 0] = energy


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _powers(halves, joints, bins, level, folded, first):  # type: ignore[no-untyped-def]
    """Write the power of even and odd bins, in bands, and that of even bins folded for the cosine transform."""
    two = np.float32(2)
    low, high = np.empty(_EIGHTH + 1, dtype=np.float32), np.empty(_EIGHTH + 1, dtype=np.float32)  # k and N_FFT / 2 - k
    evens, odds = np.empty(_QUARTER + 1, dtype=np.float32), np.empty(_QUARTER, dtype=np.float32)  # in their order
    pairs = np.empty(_QUARTER, dtype=np.float32)
    for t in range(len(halves)):
        even, odd, row = halves[t, 0], halves[t, 1], folded[t]
        for j in range(1, _EIGHTH + 1):
            a, b, c, d = even[2 * j], even[2 * j + 1], even[2 * (_QUARTER - j)], even[2 * (_QUARTER - j) + 1]
            even_real, even_imaginary, x, y = a + c, b - d, b + d, a - c
            odd_real, odd_imaginary = x * joints[0, j] - y * joints[1, j], y * joints[0, j] + x * joints[1, j]
            low[j] = (even_real + odd_real) ** 2 + (even_imaginary - odd_imaginary) ** 2
            high[j] = (even_real - odd_real) ** 2 + (even_imaginary + odd_imaginary) ** 2
        low[0], high[0] = (two * (even[0] + even[1])) ** 2, (two * (even[0] - even[1])) ** 2
        lag_1 = low[0] - high[0]
        for j in range(1, _EIGHTH + 1):
            row[j] = low[j] + high[j] + two * joints[1, j] * (low[j] - high[j])
            lag_1 += two * joints[0, j] * (low[j] - high[j])
        for j in range(1, _EIGHTH + 1):
            row[_QUARTER - j] = low[j] + high[j] - two * joints[1, j] * (low[j] - high[j])
        row[0], first[t] = low[0] + high[0], lag_1
        for j in range(_EIGHTH + 1):
            evens[_QUARTER - j] = high[j]
        for j in range(_EIGHTH + 1):
            evens[j] = low[j]
        for j in range(_EIGHTH):
            odds[2 * j] = odd[2 * j] ** 2 + odd[2 * j + 1] ** 2
            odds[2 * j + 1] = odd[2 * (_QUARTER - 1 - j)] ** 2 + odd[2 * (_QUARTER - 1 - j) + 1] ** 2
        for j in range(_QUARTER):
            pairs[j] = evens[j] + odds[j]
        for band in range(len(bins) - 1):
            start, stop = bins[band], bins[band + 1]
            in_band = np.float32(0)
            for j in range((start + 1) // 2, stop // 2):
                in_band += pairs[j]
            if start % 2:
                in_band += odds[start // 2]
            if stop % 2:
                in_band += evens[stop // 2]
            level[t, band] = in_band / np.float32(stop - start)


@numba.njit(cache=True, nogil=True)
def _pitch(own, first, undo, cost, noise, out):  # type: ignore[no-untyped-def]
    """Height and frequency of the best peak of each autocorrelation, by parabolas through three lags.

    `own` `[t, >= lag]` holds even lags, and between them how much each odd lag differs from the odd one before it.
    """
    r = np.empty(_HIGHEST + 3, dtype=np.float32)
    for t in range(len(own)):
        scale = np.float32(1) / (own[t, 0] + noise)
        odd = first[t]
        for lag in range(2, _HIGHEST + 2, 2):
            r[lag] = own[t, lag]
            odd += own[t, lag + 1]
            r[lag + 1] = odd
        for lag in range(_LOWEST - 1, _HIGHEST + 2):
            r[lag] *= scale * undo[lag]
        best = _best(r, cost)
        out[t, 2], out[t, 3] = 0.0, np.nan
        if best >= 0:
            a, b, c = r[best - 1], r[best], r[best + 1]
            shift = (a - c) / (2 * (a - 2 * b + c))
            out[t, 2] = min(max(b - (a - c) * shift / 4, 0.0), 1.0)
            if out[t, 2] >= VOICED:
                out[t, 3] = SAMPLE_RATE_HZ / (best + shift)


@numba.njit(cache=True, nogil=True)
def _best(r, cost):  # type: ignore[no-untyped-def]
    """Return the lag of the preferred peak, or −1.

    A peak's value, to 5e-7, stands in the upper bits of a whole number and its lag, turned round, in the lowest eight:
    the largest of whole numbers is found many at a time.
    """
    found = np.int32(0)
    for lag in range(_LOWEST, _HIGHEST + 1):
        value = np.int32((r[lag] - cost[lag] + np.float32(1)) * np.float32(2**21))
        is_peak = (r[lag] >= r[lag - 1]) & (r[lag] > r[lag + 1])
        found = max(found, value * np.int32(256) + np.int32(_LOWEST + 255 - lag) if is_peak else np.int32(0))
    return _LOWEST + 255 - (found & 255) if found else -1
