"""From which value on the frames of a dense dictionary's features are kept, decided before the pass by a few clips.

The pilot is chosen by the hashes of clip ids, so whoever builds any part of a corpus finds the same floors, whatever
the order of the clips; a corpus that gains a clip keeps its floors unless that clip is in the pilot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from otoscope.audio import Corpus

SHARE = 1 / 8
"""Share of all frames that a feature keeps, if it is active in as many."""
PILOT_FRAMES = 1 << 14
"""The pilot ends with the clip that reaches this many frames (5.5 minutes)."""
_LOWEST_EXPONENT, _OCTAVES, _STEP_BITS = -12, 24, 18  # 32 bins to an octave, from 2⁻¹² to 2¹²
_TILE, _INFINITE = 64, 0x7F800000

Floors = npt.NDArray[np.float32]


def pilot_order(corpus: Corpus) -> list[int]:
    """Positions of all clips, those that belong into a pilot first."""
    keys = [hashlib.sha256(f"otoscope pilot {clip.clip_id}".encode()).digest() for clip in corpus]
    return sorted(range(len(keys)), key=keys.__getitem__)


def pilot_clips(corpus: Corpus, n_frames: Callable[[int], int]) -> Iterator[int]:
    """Yield the positions of the pilot's clips; `n_frames(position)` is asked for each once it was yielded."""
    found = 0
    for position in pilot_order(corpus):
        if found >= PILOT_FRAMES:
            return
        yield position
        found += n_frames(position)


def pilot_name(clips: Iterable[str]) -> str:
    """Return what stands for a pilot, given the ids and fingerprints of its clips: equal pilots give equal floors."""
    return hashlib.sha256("\n".join([f"{SHARE} {PILOT_FRAMES}", *clips]).encode()).hexdigest()


class FloorFinder:
    """Finds the floors of a dictionary's features from codes, in memory that does not grow with them."""

    def __init__(self, n_features: int) -> None:
        self._bins = np.zeros((n_features, _OCTAVES << (23 - _STEP_BITS)), dtype=np.int32)
        self._n_frames = 0

    def add(self, values: npt.NDArray[np.float32], indices: npt.NDArray[Any]) -> None:
        """Take in a code `[t, k]`."""
        _add(values, values.view(np.int32), indices, (127 + _LOWEST_EXPONENT) << (23 - _STEP_BITS), self._bins)
        self._n_frames += len(values)

    def add_sides(self, frames: npt.NDArray[np.float32]) -> None:
        """Take in frames `[t, d]`, each unit's two sides being features."""
        _add_sides(frames.view(np.uint32), (127 + _LOWEST_EXPONENT) << (23 - _STEP_BITS), self._bins)
        self._n_frames += len(frames)

    def floors(self) -> Floors:
        """Return `[n]`: the largest edge that at least `SHARE` of all frames reach; 0 for features that are active
        in fewer. Values above it are kept: it lies just below the edge, so that ties are kept together."""
        reaching = self._bins[:, ::-1].cumsum(axis=1)[:, ::-1]
        enough = reaching >= SHARE * self._n_frames
        best = enough.shape[1] - 1 - enough[:, ::-1].argmax(axis=1)
        bits = (best.astype(np.int32) + ((127 + _LOWEST_EXPONENT) << (23 - _STEP_BITS))) << np.int32(_STEP_BITS)
        edges = np.nextafter(bits.view(np.float32), np.float32(0))
        return np.where(enough.any(axis=1) & (best > 0), edges, np.float32(0)).astype(np.float32)


@numba.njit(cache=True, nogil=True)
def _add(values, bits, indices, lowest, bins):  # type: ignore[no-untyped-def]
    n_frames, k = values.shape
    last = bins.shape[1] - 1
    for t in range(n_frames):
        for j in range(k):
            if values[t, j] > 0:
                at = (bits[t, j] >> _STEP_BITS) - lowest
                bins[indices[t, j], min(max(at, 0), last)] += 1


@numba.njit(cache=True, nogil=True)
def _add_sides(bits, lowest, bins):  # type: ignore[no-untyped-def]
    """`_add` of the sides of all units, a tile at a time, so that their bins stay in the cache."""
    n_frames, d = bits.shape
    last = bins.shape[1] - 1
    for first in range(0, n_frames, _TILE):
        for unit in range(0, d, _TILE):
            for t in range(first, min(first + _TILE, n_frames)):
                for i in range(unit, min(unit + _TILE, d)):
                    magnitude = np.int64(bits[t, i] & 0x7FFFFFFF)
                    if magnitude > _INFINITE:  # no number
                        magnitude = np.int64(0)
                    at = min(max((magnitude >> _STEP_BITS) - lowest, 0), last)
                    bins[i + d * np.int64(bits[t, i] >> 31), at] += ((magnitude - 1) >> 63) + 1  # 0 for 0, else 1
