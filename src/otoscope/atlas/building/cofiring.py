"""Which features fire in the same frames more often than chance would have it, from a sample of each one's frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from otoscope.atlas.building.common_sample import (
    MIN_SEEN,
    N_PARTNERS,
    SAMPLED,
    CommonSample,
    association,
    insert,
)
from otoscope.atlas.building.statistics import Columns
from otoscope.evaluation.naming.by_feature import Block
from otoscope.storage.arrays import ArrayFile

MAX_SAMPLED = 4096
"""Frames of a feature that are looked at: all, or as many evenly spaced ones."""
MAX_GATHERED = 1 << 18
"""Entries of these frames per feature; where frames hold many, fewer of them are looked at."""
BATCH_ENTRIES = 1 << 21
FULL = 1 / 32
"""Where frames hold at least this share of all features, all features are counted in one sample of frames; those that
fire in too few of them, in as many of their own as would be enough."""

Ints = npt.NDArray[np.int64]


class _Picked(NamedTuple):
    """Some entries of some features: those of the i-th are `bounds[i]:bounds[i + 1]`."""

    features: Ints
    bounds: Ints
    frames: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]


class CofiringCounter:
    """Finds the partners of features, a block at a time; `complete` ends it. Safe between threads; memory does not grow
    with frames.

    Args:
        parts: first frame and arrays of every part of the codes, in order.
        active: `[n]` entries of every feature.
        n_frames: frames of the corpus.
        correlate: also correlate the values, for dictionaries whose directions say nothing of likeness.
    """

    def __init__(
        self, parts: Sequence[tuple[int, ArrayFile]], active: Ints, n_frames: int, *, correlate: bool = False
    ) -> None:
        self._parts = [(first, file.read("indptr"), file) for first, file in parts]
        self._active = active
        self._n_frames = n_frames
        self._per_frame = max(1.0, float(active.sum()) / max(1, n_frames))
        self._correlate = correlate
        self._sums, self._squares = self._moments()
        self._sample: CommonSample | None = None
        self._left: list[_Picked] = []
        if n_frames and self._per_frame >= FULL * len(active):
            n = min(SAMPLED, n_frames)
            frames = (np.arange(n) * n_frames // n).astype(np.uint32)
            self._sample = CommonSample(*self._gathered(frames), active, n_frames, correlate=correlate)

    def of(self, block: Block) -> Columns:
        """Return the partners of a block's features, most surprising first.

        `cofiring [m, 10]`: the partner, −1 for none. `cofiring_pmi`: normalised pointwise mutual information of being
        active in a frame (Bouma 2009), 0 for chance and 1 for always together. `cofiring_share`: share of the feature's
        frames in which the partner is active too. With `correlate`, also `neighbours` and `neighbour_cosines`: the
        features whose values correlate most with it over all frames (Pearson; frames without an entry count as 0).
        """
        if self._sample is None:
            return self._of_own_frames([_Picked(block.first + np.arange(len(block)), *self._picked(block))])
        here = slice(block.first, block.first + len(block))
        left = np.flatnonzero(~self._sample.enough[here])
        if len(left):
            self._left.append(_Picked(block.first + left, *self._picked(block, left)))
        return {name: column[here].copy() for name, column in self._sample.columns.items()}

    def complete(self, columns: Columns) -> None:
        """Fill in what `of` left out of the columns of all features: those of which the common sample says too little
        are looked at together, since frames of a few lie in all parts."""
        if self._left:
            left = sorted(self._left, key=lambda each: int(each.features[0]))
            features = np.concatenate([each.features for each in left])
            for name, column in self._of_own_frames(left).items():
                columns[name][features] = column

    def _of_own_frames(self, picked: Sequence[_Picked]) -> Columns:
        features = np.concatenate([each.features for each in picked])
        sizes = np.concatenate([np.diff(each.bounds) for each in picked])
        frames = np.concatenate([each.frames for each in picked])
        own_values = np.concatenate([each.values for each in picked])
        bounds = np.concatenate(([0], np.cumsum(sizes)))
        shape = (len(features), N_PARTNERS)
        found: Columns = {
            "cofiring": np.full(shape, -1, dtype=np.int32),
            "cofiring_pmi": np.full(shape, np.nan, dtype=np.float16),
            "cofiring_share": np.full(shape, np.nan, dtype=np.float16),
        }
        if self._correlate:
            found["neighbours"] = np.full(shape, -1, dtype=np.int32)
            found["neighbour_cosines"] = np.full(shape, np.nan, dtype=np.float16)
        room, first = max(1, int(BATCH_ENTRIES / self._per_frame)), 0
        while first < len(features):
            last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + room, side="right")) - 1)
            entries, own = slice(bounds[first], bounds[last]), bounds[first : last + 1] - bounds[first]
            names, here = features[first:last], slice(first, last)
            indptr, others, strengths = self._gathered(frames[entries])
            rows = _partners(names, own, indptr, others, self._active, self._n_frames)
            for name, column in zip(("cofiring", "cofiring_pmi", "cofiring_share"), rows, strict=True):
                found[name][here] = column
            if self._correlate:
                found["neighbours"][here], found["neighbour_cosines"][here] = _correlates(
                    names, own, own_values[entries], indptr, others, strengths,
                    self._active, self._sums, self._squares, self._n_frames,
                )  # fmt: skip
            first = last
        return found

    def _picked(
        self, block: Block, which: Ints | None = None
    ) -> tuple[Ints, npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        """Bounds, frames and values of evenly spaced entries of (some) features of a block."""
        limit = MAX_SAMPLED if self._sample is None else MIN_SEEN
        limit = max(1, min(limit, int(MAX_GATHERED / self._per_frame)))
        starts, stops = block.indptr[:-1], block.indptr[1:]
        if which is not None:
            starts, stops = starts[which], stops[which]
        bounds = np.concatenate(([0], np.cumsum(np.minimum(stops - starts, limit)))).astype(np.int64)
        picked = _evenly(starts, stops, bounds)
        return bounds, block.frames[picked], block.values[picked]

    def _gathered(self, frames: npt.NDArray[np.uint32]) -> tuple[Ints, npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        """Return the codes of some frames, in the order given: bounds, features, values."""
        order = np.argsort(frames, kind="stable")
        ends = np.searchsorted(frames[order], [first for first, _, _ in self._parts[1:]])
        members = np.split(order, ends)
        bounds = np.zeros(len(frames) + 1, dtype=np.int64)
        for (first, indptr, _), own in zip(self._parts, members, strict=True):
            at = frames[own].astype(np.int64) - first
            bounds[own + 1] = indptr[at + 1] - indptr[at]
        bounds = np.cumsum(bounds)
        features = np.empty(bounds[-1], dtype=np.uint32)
        values = np.empty(bounds[-1] if self._correlate else 0, dtype=np.float32)
        for (first, indptr, file), own in zip(self._parts, members, strict=True):
            if len(own):
                at = frames[own].astype(np.int64) - first
                _fill(own, at, indptr, file.read("features"), bounds, features)
                if self._correlate:
                    _fill(own, at, indptr, file.read("values"), bounds, values)
                file.release()
        return bounds, features, values

    def _moments(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Sums of the values and of their squares, `[n]` each."""
        sums, squares = np.zeros(len(self._active)), np.zeros(len(self._active))
        if self._correlate:
            for _, _, file in self._parts:
                _add_moments(file.read("features"), file.read("values"), sums, squares)
                file.release()
        return sums, squares


@numba.njit(cache=True, nogil=True)
def _evenly(starts, stops, bounds):  # type: ignore[no-untyped-def]
    """Entries of each feature, evenly spaced, as many as `bounds` has room for."""
    picked = np.empty(bounds[-1], dtype=np.int64)
    for i in range(len(bounds) - 1):
        n, total = bounds[i + 1] - bounds[i], stops[i] - starts[i]
        for j in range(n):
            picked[bounds[i] + j] = starts[i] + j * total // n
    return picked


@numba.njit(cache=True, nogil=True)
def _fill(own, at, indptr, source, bounds, target):  # type: ignore[no-untyped-def]
    for i in range(len(own)):
        start = indptr[at[i]]
        to = bounds[own[i]]
        for j in range(bounds[own[i] + 1] - to):
            target[to + j] = source[start + j]


@numba.njit(cache=True, nogil=True)
def _add_moments(features, values, sums, squares):  # type: ignore[no-untyped-def]
    for entry in range(len(features)):
        value = np.float64(values[entry])
        sums[features[entry]] += value
        squares[features[entry]] += value * value


@numba.njit(cache=True, nogil=True)
def _partners(names, bounds, indptr, features, active, n_frames):  # type: ignore[no-untyped-def]
    n = len(bounds) - 1
    found = np.full((n, N_PARTNERS), -1, dtype=np.int32)
    scores = np.full((n, N_PARTNERS), np.nan)
    shares = np.full((n, N_PARTNERS), np.nan)
    together = np.zeros(len(active), dtype=np.int32)
    seen = np.empty(len(active), dtype=np.int64)
    for i in range(n):
        n_seen = 0
        for entry in range(indptr[bounds[i]], indptr[bounds[i + 1]]):
            g = features[entry]
            if together[g] == 0:
                seen[n_seen] = g
                n_seen += 1
            together[g] += 1
        sampled = bounds[i + 1] - bounds[i]
        for j in range(n_seen):
            g = seen[j]
            score = -1.0
            if g != names[i]:
                score = association(together[g], sampled, active[names[i]], active[g], n_frames)
            if score >= 0:
                insert(found[i], scores[i], g, score)
        for j in range(N_PARTNERS):
            if found[i, j] >= 0:
                shares[i, j] = together[found[i, j]] / sampled
        together[seen[:n_seen]] = 0
    return found, scores, shares


@numba.njit(cache=True, nogil=True)
def _correlates(names, bounds, own_values, indptr, features, values, active, sums, squares, n_frames):  # type: ignore[no-untyped-def]
    n = len(bounds) - 1
    found = np.full((n, N_PARTNERS), -1, dtype=np.int32)
    scores = np.full((n, N_PARTNERS), np.nan)
    products = np.zeros(len(active))
    mean, spread = sums / n_frames, np.sqrt(np.maximum(squares / n_frames - (sums / n_frames) ** 2, 0.0))
    seen = np.empty(len(active), dtype=np.int64)
    for i in range(n):
        f, n_seen = names[i], 0
        sampled = bounds[i + 1] - bounds[i]
        for pair in range(bounds[i], bounds[i + 1]):
            for entry in range(indptr[pair], indptr[pair + 1]):
                g = features[entry]
                if products[g] == 0:
                    seen[n_seen] = g
                    n_seen += 1
                products[g] += np.float64(own_values[pair]) * values[entry]
        for j in range(n_seen):
            g = seen[j]
            product = products[g] / sampled * active[f] / n_frames
            products[g] = 0.0
            both = spread[f] * spread[g]
            if g != f and both > 0:
                insert(found[i], scores[i], g, max(-1.0, min(1.0, (product - mean[f] * mean[g]) / both)))
    return found, scores
