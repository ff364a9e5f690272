"""Moments to listen to: the strongest frames of a feature, some of every band of its range, and random ones.

Within a kind (and within a band) no clip appears twice, so that neighbouring frames of one loud clip cannot fill the
list. Everything follows from the ranked entries and a seed: ties go to the earlier frame.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

KINDS = ("top", "decile", "random")
N_TOP = 20
"""Strongest frames kept, one per clip."""
N_PER_BAND = 3
"""Frames kept from each tenth of the range: band b holds values from b·10 % to (b + 1)·10 % of the maximum."""
N_RANDOM = 10
"""Random active frames kept, one per clip."""
N_BANDS = 10
SLOTS = N_TOP + N_BANDS * N_PER_BAND + N_RANDOM


def pick_examples(
    first_feature: int,
    indptr: npt.NDArray[np.int64],
    frames: npt.NDArray[np.uint32],
    values: npt.NDArray[np.float32],
    clip_of_frame: npt.NDArray[np.int32],
    n_clips: int,
    seed: int,
) -> dict[str, npt.NDArray[np.generic]]:
    """Rows of `examples.parquet` for the features of one block, from ranked entries (falling values)."""
    n = len(indptr) - 1
    chosen = np.full((n, SLOTS), -1, dtype=np.int64)
    _pick(first_feature, indptr, frames, values, clip_of_frame, n_clips, np.uint64(seed), chosen)
    feature, slot = np.nonzero(chosen >= 0)
    entry = chosen[feature, slot]
    random_from = SLOTS - N_RANDOM
    kind = np.where(slot < N_TOP, 0, np.where(slot < random_from, 1, 2)).astype(np.int8)
    band = np.where(kind == 1, (slot - N_TOP) // N_PER_BAND, -1).astype(np.int8)
    return {
        "feature": (feature + first_feature).astype(np.int64),
        "kind": kind,
        "decile": band,
        "frame": frames[entry].astype(np.int64),
        "value": values[entry],
    }


@numba.njit(cache=True, nogil=True)
def _mix(state):  # type: ignore[no-untyped-def]
    """splitmix64 (Steele et al. 2014): the next state's well-mixed 64 bits."""
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _draw(start, stop, slots, state, frames, clip_of_frame, met, stamp):  # type: ignore[no-untyped-def]
    """Fill `slots` with entries of `[start, stop)` from distinct clips, by random draws without regard to value."""
    filled = 0
    for _ in range(8 * len(slots)):
        if filled == len(slots) or stop <= start:
            break
        state = _mix(state)
        entry = start + np.int64(state % np.uint64(stop - start))
        clip = clip_of_frame[frames[entry]]
        if met[clip] != stamp:
            met[clip] = stamp
            slots[filled] = entry
            filled += 1
    slots[:filled].sort()
    return state


@numba.njit(cache=True, nogil=True)
def _pick(first_feature, indptr, frames, values, clip_of_frame, n_clips, seed, chosen):  # type: ignore[no-untyped-def]
    met = np.full(n_clips, -1, dtype=np.int64)
    stamp = 0
    for i in range(len(indptr) - 1):
        start, stop = indptr[i], indptr[i + 1]
        if start == stop:
            continue
        filled = 0
        for entry in range(start, stop):
            clip = clip_of_frame[frames[entry]]
            if met[clip] != stamp:
                met[clip] = stamp
                chosen[i, filled] = entry
                filled += 1
                if filled == N_TOP:
                    break
        stamp += 1
        state = _mix(seed ^ _mix(np.uint64(first_feature + i)))
        above = start
        for band in range(N_BANDS - 1, -1, -1):
            floor = values[start] * band / N_BANDS
            low, high = above, stop  # entries fall: find the first one under the band
            while low < high:
                middle = (low + high) // 2
                if values[middle] > floor:
                    low = middle + 1
                else:
                    high = middle
            below = low
            slot = N_TOP + band * N_PER_BAND
            state = _draw(above, below, chosen[i, slot : slot + N_PER_BAND], state, frames, clip_of_frame, met, stamp)
            stamp += 1
            above = below
        random_slots = chosen[i, SLOTS - N_RANDOM :]
        _draw(start, stop, random_slots, state, frames, clip_of_frame, met, stamp)
        stamp += 1
