"""Clip lists of heavy features: where the entries of each clip begin, and the peak there, so that no query reads all.

The feature page and its search ask for the strongest clips. A feature with a million entries would be read whole for
that; its clip list takes half the room at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from otoscope.atlas.format import HEAVY_ENTRIES, HEAVY_PER_CLIP

Arrays = dict[str, npt.NDArray[Any]]

_OF_CLIPS = ("clip", "clip_first", "peak_frame", "peak")


def clip_lists(
    indptr: npt.NDArray[np.int64],
    frames: npt.NDArray[np.uint32],
    values: npt.NDArray[np.float32],
    clip_bounds: npt.NDArray[np.int64],
) -> Arrays:
    """Return the clip lists of the features of one part of the postings that have many entries for each clip.

    Args:
        indptr: `[m + 1]` where each feature's entries lie.
        frames: frames of the corpus, ascending within a feature.
        values: their values.
        clip_bounds: first frame of every clip, and the number of all frames last.
    """
    heavy: list[int] = []
    found: list[Sequence[npt.NDArray[np.generic]]] = []
    for i in np.flatnonzero(np.diff(indptr) >= HEAVY_ENTRIES).tolist():
        entries = slice(int(indptr[i]), int(indptr[i + 1]))
        lists = _peaks(frames[entries], values[entries], clip_bounds)
        if len(lists[0]) * HEAVY_PER_CLIP <= indptr[i + 1] - indptr[i]:
            heavy.append(i)
            found.append(lists)
    lengths = [len(lists[0]) for lists in found]
    empty = (np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.float32))
    clips, first, at, peak = (np.concatenate(column) for column in zip(empty, *found, strict=True))
    return {
        "heavy": np.array(heavy, dtype=np.uint32),
        "clip_indptr": np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        "clip": clips,
        "clip_first": first,
        "peak_frame": at,
        "peak": peak,
    }


def joined_lists(pieces: Sequence[tuple[int, Arrays]]) -> Arrays:
    """Join clip lists of runs of features of one part, each given with the number of its first feature there."""
    lengths = np.concatenate([np.diff(lists["clip_indptr"]) for _, lists in pieces])
    return {
        "heavy": np.concatenate([lists["heavy"] + np.uint32(first) for first, lists in pieces]).astype(np.uint32),
        "clip_indptr": np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        **{name: np.concatenate([lists[name] for _, lists in pieces]) for name in _OF_CLIPS},
    }


@numba.njit(cache=True, nogil=True)
def _peaks(frames, values, bounds):  # type: ignore[no-untyped-def]
    """Clips, first entry in each, frame of the peak (the earliest where several tie), and its value."""
    n = 0
    clips = np.empty(len(bounds), dtype=np.uint32)
    first = np.empty(len(bounds), dtype=np.uint32)
    at = np.empty(len(bounds), dtype=np.uint32)
    peak = np.empty(len(bounds), dtype=np.float32)
    end = np.int64(-1)
    for entry in range(len(frames)):
        if np.int64(frames[entry]) >= end:
            clip = np.searchsorted(bounds, frames[entry], side="right") - 1
            end = bounds[clip + 1]
            clips[n], first[n], at[n], peak[n] = clip, entry, frames[entry], values[entry]
            n += 1
        elif values[entry] > peak[n - 1]:
            at[n - 1], peak[n - 1] = frames[entry], values[entry]
    return clips[:n].copy(), first[:n].copy(), at[:n].copy(), peak[:n].copy()
