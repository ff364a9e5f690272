"""Partners and correlates of all features at once, from one sample of frames: for dictionaries whose frames are full.

Where frames hold hundreds of features, going through the frames of each feature visits nearly everything for every
feature; two matrix products over a few thousand evenly spaced frames say as much.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import torch

from otoscope.atlas.building.statistics import Columns

N_PARTNERS = 10
MIN_TOGETHER = 8
"""Frames in which two features must be seen together…"""
MIN_DEVIATIONS = 3.0
"""…and by how many standard deviations (√count, Poisson) that must exceed what independence gives."""
SAMPLED = 4096
"""Frames of the sample."""
MIN_SEEN = 256
"""A feature is judged by the sample if it is active in so many of its frames, or nowhere else."""
_ROWS, _FRAMES = 512, 512

Ints = npt.NDArray[np.int64]


class CommonSample:
    """What evenly spaced frames say of all features.

    Attributes:
        columns: as of `CofiringCounter.of`, for all features.
        enough: `[n]` whether the sample can judge a feature.

    Args:
        indptr, features, values: codes of the frames; values may be empty unless they are to be correlated.
        active: `[n]` entries of every feature in the whole corpus, which has `n_frames` frames.
        correlate: also find the features whose values correlate most.
    """

    def __init__(
        self,
        indptr: Ints,
        features: npt.NDArray[np.uint32],
        values: npt.NDArray[np.float32],
        active: Ints,
        n_frames: int,
        *,
        correlate: bool,
    ) -> None:
        n = len(active)
        n_sampled = len(indptr) - 1
        seen = np.bincount(features, minlength=n)
        self.enough = (seen >= MIN_SEEN) | (seen == active)
        self.columns: Columns = {
            "cofiring": np.full((n, N_PARTNERS), -1, dtype=np.int32),
            "cofiring_pmi": np.full((n, N_PARTNERS), np.nan, dtype=np.float16),
            "cofiring_share": np.full((n, N_PARTNERS), np.nan, dtype=np.float16),
        }
        if correlate:
            self.columns["neighbours"] = np.full((n, N_PARTNERS), -1, dtype=np.int32)
            self.columns["neighbour_cosines"] = np.full((n, N_PARTNERS), np.nan, dtype=np.float16)
            mean = np.bincount(features, values, minlength=n) / n_sampled
            square = np.bincount(features, np.square(values, dtype=np.float64), minlength=n) / n_sampled
            spread = np.sqrt(np.maximum(square - mean**2, 0.0))
        for first in range(0, n, _ROWS):
            rows = slice(first, min(first + _ROWS, n))
            ones = _products(indptr, features, np.ones(len(features), dtype=np.float32), n, rows)
            best = _best_partners(first, ones, seen, active, n_frames, N_PARTNERS)
            for name, column in zip(("cofiring", "cofiring_pmi", "cofiring_share"), best, strict=True):
                self.columns[name][rows] = column
            if correlate:
                products = _products(indptr, features, values, n, rows)
                best = _best_correlates(first, products, mean, spread, n_sampled, N_PARTNERS)
                self.columns["neighbours"][rows], self.columns["neighbour_cosines"][rows] = best


def _products(
    indptr: Ints, features: npt.NDArray[np.uint32], values: npt.NDArray[np.float32], n: int, rows: slice
) -> npt.NDArray[np.float32]:
    """Return the sums over all frames of the products of features `rows` with all features, `[rows, n]`."""
    found = torch.zeros(rows.stop - rows.start, n)
    for start in range(0, len(indptr) - 1, _FRAMES):
        bounds = indptr[start : start + _FRAMES + 1]
        dense = torch.zeros(len(bounds) - 1, n)
        _spread_out(bounds, features, values, dense.numpy())
        found.addmm_(dense[:, rows].T, dense)
    result: npt.NDArray[np.float32] = found.numpy()
    return result


@numba.njit(cache=True, nogil=True)
def _spread_out(indptr, features, values, dense):  # type: ignore[no-untyped-def]
    for t in range(len(dense)):
        for entry in range(indptr[t], indptr[t + 1]):
            dense[t, features[entry]] = values[entry]


@numba.njit(cache=True, nogil=True)
def association(count, sampled, active, other_active, n_frames):  # type: ignore[no-untyped-def]
    """Normalised pointwise mutual information (Bouma 2009) of two features that fire together in `count` of `sampled`
    frames of the first; −1 where that is too seldom, or not surely more than chance."""
    expected = sampled * other_active / n_frames
    if count < MIN_TOGETHER or count - MIN_DEVIATIONS * np.sqrt(count) <= expected:
        return -1.0
    joint = count / sampled * active / n_frames
    return np.log(count / expected) / -np.log(joint) if joint < 1 else 0.0


@numba.njit(cache=True, nogil=True)
def insert(features, scores, feature, score):  # type: ignore[no-untyped-def]
    """Keep the best, highest first, ties by feature."""
    last = len(features) - 1
    if features[last] >= 0 and (score < scores[last] or (score == scores[last] and feature > features[last])):
        return
    at = last
    while at > 0 and (
        features[at - 1] < 0 or score > scores[at - 1] or (score == scores[at - 1] and feature < features[at - 1])
    ):
        features[at], scores[at] = features[at - 1], scores[at - 1]
        at -= 1
    features[at], scores[at] = feature, score


@numba.njit(cache=True, nogil=True)
def _best_partners(first, together, seen, active, n_frames, n_partners):  # type: ignore[no-untyped-def]
    n = len(together)
    found = np.full((n, n_partners), -1, dtype=np.int32)
    scores, shares = np.full((n, n_partners), np.nan), np.full((n, n_partners), np.nan)
    for i in range(n):
        sampled = seen[first + i]
        for g in range(len(active)):
            score = -1.0
            if g != first + i:
                score = association(together[i, g], sampled, active[first + i], active[g], n_frames)
            if score >= 0:
                insert(found[i], scores[i], g, score)
        for j in range(n_partners):
            if found[i, j] >= 0:
                shares[i, j] = together[i, found[i, j]] / sampled
    return found, scores, shares


@numba.njit(cache=True, nogil=True)
def _best_correlates(first, products, mean, spread, n_sampled, n_partners):  # type: ignore[no-untyped-def]
    n, last = len(products), n_partners - 1
    found, scores = np.full((n, n_partners), -1, dtype=np.int32), np.full((n, n_partners), np.nan)
    steepness = np.where(spread > 0, 1.0 / np.where(spread > 0, spread, 1.0), 0.0)
    for i in range(n):
        f, least = first + i, -2.0
        for g in range(len(mean)):
            score = (np.float64(products[i, g]) / n_sampled - mean[f] * mean[g]) * (steepness[f] * steepness[g])
            if score > least and g != f and products[i, g] > 0 and spread[f] > 0 and spread[g] > 0:
                insert(found[i], scores[i], g, max(-1.0, min(1.0, score)))
                if found[i, last] >= 0:
                    least = scores[i, last]
    return found, scores
