"""What is counted of every feature of a dense dictionary, so that nothing is lost by keeping only its strong frames.

A clip's counts depend on the clip alone, and all sums over clips are of whole numbers: they come out the same in
whatever order clips are counted, on however many machines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numba
import numpy as np
import numpy.typing as npt

from otoscope.storage.arrays import ArrayFile, write_arrays

BINS_BELOW = 64
"""Bins of an eighth of an octave each: what is under 1/256 of the floor is counted in the last."""
COARSE, FINE = 2.0**12, 2.0**44
"""Sums are kept in units of 1 / COARSE and, what is smaller, of 1 / FINE."""
_STEP_BITS = 20
"""A step of 2²⁰ in the bits of a float32 is an eighth of an octave."""
_TILE, _INFINITE = 64, 0x7F800000

Arrays = dict[str, npt.NDArray[Any]]


class Totals:
    """Counts over all active (> 0) frames of every feature, kept or not.

    Attributes:
        active: `[n]` frames in which it is active; `clips`: clips in which it is.
        sums: `[n, 2]` sum of its values, in units of 1 / COARSE, and the rest in units of 1 / FINE.
        highest: `[n]` its largest value.
        below: `[n, BINS_BELOW]` active frames that are not above the feature's floor, bin after bin downwards, each
            an eighth of an octave wide; the last holds everything below.
    """

    def __init__(self, arrays: Arrays) -> None:
        self.active, self.clips, self.sums = arrays["active"], arrays["clips"], arrays["sums"]
        self.highest, self.below = arrays["highest"], arrays["below"]

    @classmethod
    def of_none(cls, n_features: int) -> Self:
        """Counts of no frames."""
        return cls(
            {
                "active": np.zeros(n_features, dtype=np.int64),
                "clips": np.zeros(n_features, dtype=np.int64),
                "sums": np.zeros((n_features, 2), dtype=np.int64),
                "highest": np.zeros(n_features, dtype=np.float32),
                "below": np.zeros((n_features, BINS_BELOW), dtype=np.uint32),
            }
        )

    @classmethod
    def load(cls, file: ArrayFile) -> Self:
        """Read what `save` wrote."""
        return cls({name: file.read(name).copy() for name in ("active", "clips", "sums", "highest", "below")})

    def save(self, path: Path, floors: npt.NDArray[np.float32] | None = None) -> None:
        """Write a file of arrays, with the floors `[n]` if they are given."""
        write_arrays(path, vars(self) | ({} if floors is None else {"floors": floors}))

    def add(self, other: Totals) -> None:
        """Take in the counts of other clips."""
        self.active += other.active
        self.clips += other.clips
        self.sums += other.sums
        np.maximum(self.highest, other.highest, out=self.highest)
        self.below += other.below

    def count(
        self, values: npt.NDArray[np.float32], indices: npt.NDArray[Any], floors: npt.NDArray[np.float32]
    ) -> None:
        """Take in the code `[t, k]` of one clip."""
        _count(values, values.view(np.int32), indices, floors, floors.view(np.int32), *vars(self).values())

    def count_sides(self, frames: npt.NDArray[np.float32], floors: npt.NDArray[np.float32]) -> int:
        """Take in the frames `[t, d]` of one clip, each unit's two sides being features; return how many
        entries are above the floors."""
        return int(_count_sides(frames, frames.view(np.int32), floors.view(np.int32), *vars(self).values()))

    def mean(self) -> npt.NDArray[np.float64]:
        """`[n]` mean of the active values; 0 where there are none."""
        total = self.sums[:, 0] / COARSE + self.sums[:, 1] / FINE
        return np.asarray(total / np.maximum(self.active, 1), dtype=np.float64)


def bin_edges(floors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Upper edges `[n, BINS_BELOW + 1]` of the bins below each feature's floor, downwards; the last is 0."""
    steps = np.arange(BINS_BELOW + 1, dtype=np.int64) << _STEP_BITS
    bits = np.maximum(floors.view(np.int32)[:, None] - steps, 0).astype(np.int32)
    edges = bits.view(np.float32)
    edges[:, -1] = 0
    return edges


@numba.njit(cache=True, nogil=True)
def _count(values, bits, indices, floors, floor_bits, active, clips, sums, highest, below):  # type: ignore[no-untyped-def]
    n_frames, k = values.shape
    n, last_bin = below.shape[0], below.shape[1] - 1
    counts, total = np.zeros(n, dtype=np.int64), np.zeros(n)
    for t in range(n_frames):
        for j in range(k):
            value = values[t, j]
            if value > 0:
                i = indices[t, j]
                counts[i] += 1
                total[i] += value
                highest[i] = max(highest[i], value)
                if value <= floors[i]:
                    below[i, min((floor_bits[i] - bits[t, j]) >> _STEP_BITS, last_bin)] += 1
    _take_in(counts, total, active, clips, sums)


@numba.njit(cache=True, nogil=True)
def _take_in(counts, total, active, clips, sums):  # type: ignore[no-untyped-def]
    """Add a clip's counts and sums of values."""
    for i in range(len(counts)):
        active[i] += counts[i]
        clips[i] += counts[i] > 0
        whole = np.floor(total[i] * COARSE)
        sums[i, 0] += np.int64(whole)
        sums[i, 1] += np.int64((total[i] * COARSE - whole) * (FINE / COARSE))


@numba.njit(cache=True, nogil=True)
def _count_sides(frames, bits, floor_bits, active, clips, sums, highest, below):  # type: ignore[no-untyped-def]
    """`_count` of the sides of all units; return how many entries are above the floors."""
    n, n_bins = below.shape
    total = np.zeros(n)
    _sum(frames, total[: n // 2], total[n // 2 :], highest[: n // 2], highest[n // 2 :])
    bins = np.empty((n, n_bins + 2), dtype=np.int32)
    _fill(bits, floor_bits, bins)
    counts, n_kept = np.zeros(n, dtype=np.int64), 0
    for i in range(n):
        for at in range(n_bins):
            counts[i] += bins[i, 1 + at]
            below[i, at] += bins[i, 1 + at]
        counts[i] += bins[i, 0]
        n_kept += bins[i, 0]
    _take_in(counts, total, active, clips, sums)
    return n_kept


@numba.njit(cache=True, nogil=True)
def _sum(frames, up, down, highest, lowest):  # type: ignore[no-untyped-def]
    """Sums and largest magnitudes of each side; loops of one sum each are computed many at a time."""
    n_frames, d = frames.shape
    zero = np.float32(0)
    for t in range(n_frames):
        for i in range(d):
            value = frames[t, i]
            up[i] += np.float64(value if value > zero else zero)
        for i in range(d):
            value = -frames[t, i]
            down[i] += np.float64(value if value > zero else zero)
        for i in range(d):
            value = frames[t, i]
            highest[i] = value if value > highest[i] else highest[i]
        for i in range(d):
            value = -frames[t, i]
            lowest[i] = value if value > lowest[i] else lowest[i]


@numba.njit(cache=True, nogil=True)
def _fill(bits, floor_bits, bins):  # type: ignore[no-untyped-def]
    """Count in the first of each side's bins what is above its floor, in the last what is 0 or no number.

    A few units at a time, so that their bins stay in the cache.
    """
    n_frames, d = bits.shape
    n_bins = np.int32(bins.shape[1])
    counts, place = np.empty((2 * _TILE, n_bins), dtype=np.int32), np.empty(_TILE, dtype=np.uint32)
    flat, base = counts.reshape(-1), (2 * n_bins * np.arange(_TILE)).astype(np.int32)
    for first in range(0, d, _TILE):
        units = slice(first, min(first + _TILE, d))
        n = units.stop - first
        up, down = floor_bits[units], floor_bits[d + first : d + units.stop]
        counts[:] = 0
        for t in range(n_frames):
            _places(bits[t, units], up, down, base, n_bins, place[:n].view(np.int32))
            for i in range(n):
                flat[place[i]] += np.int32(1)
        for i in range(n):
            bins[first + i] = counts[2 * i]
            bins[d + first + i] = counts[2 * i + 1]


@numba.njit(cache=True, nogil=True)
def _places(bits, up, down, base, n_bins, place):  # type: ignore[no-untyped-def]
    """Fill the place of each unit's bin: `base [units]`, the bins of its positive side, those of its negative one.

    Magnitudes are compared by their bits, which order them. Numbers of 32 bits and no branches: computed many at a
    time.
    """
    i4 = np.int32
    last = i4(n_bins - i4(1))
    for i in range(len(bits)):
        negative, magnitude = bits[i] < 0, i4(bits[i] & i4(0x7FFFFFFF))
        at = i4(i4((down[i] if negative else up[i]) - magnitude) >> i4(_STEP_BITS))
        at = i4(at + i4(1)) if at < last - i4(2) else i4(last - i4(1))
        at = at if at > 0 else i4(0)  # above the floor
        known = (magnitude > 0) & (magnitude <= i4(_INFINITE))
        place[i] = i4(base[i] + i4((at if known else last) + (n_bins if negative else i4(0))))
