"""What each feature does over the whole corpus: how often, how strongly, when, and how its values spread."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from otoscope.atlas.building.totals import Totals, bin_edges
from otoscope.evaluation.naming.by_feature import Block

HISTOGRAM_BINS = 40
"""Equal bins from 0 to the feature's maximum; only active (> 0) frames are counted."""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Quantiles of the active values, reported as columns q10 … q99."""
STRONG = 0.1
"""A frame is strong when it reaches this share of the feature's maximum (`dense_share` counts them)."""
PROFILE_BINS = 20
"""Equal bins of a clip's length: where in clips a feature is active."""
PEAK_QUANTILES = 17
"""Equally spaced quantiles (0, 1/16 … 1) of the peaks of the clips in which a feature is active."""

Columns = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Uncut:
    """What is known of the frames of a dense dictionary's features that were not kept.

    Attributes:
        floors: `[n]` only values above it are entries.
        totals: counts over all active frames.
    """

    floors: npt.NDArray[np.float32]
    totals: Totals


def feature_statistics(
    block: Block,
    ranked_values: npt.NDArray[np.float32],
    clip_starts: npt.NDArray[np.int64],
    n_frames: int,
    uncut: Uncut | None = None,
) -> Columns:
    """Columns of `features.safetensors` that need no labels.

    With `uncut`, frames below the floors are counted too: exactly in `n_active`, `density`, `clip_share`, `mean` and
    `max`, to an eighth of an octave in quantiles and histogram. `profile` and `clip_peaks` are of kept frames.

    Args:
        block: entries, frames ascending.
        ranked_values: the same values, falling within each feature.
        clip_starts: first frame of every clip.
        n_frames: frames of the corpus.
        uncut: of dense dictionaries, what was not kept.
    """
    n = len(block)
    counts = np.diff(block.indptr)
    histogram = np.zeros((n, HISTOGRAM_BINS), dtype=np.uint32)
    quantiles = np.full((n, len(QUANTILES)), np.nan, dtype=np.float32)
    mean, strong = np.zeros(n), np.zeros(n, dtype=np.int64)
    clips = np.zeros(n, dtype=np.int64)
    profile = np.zeros((n, PROFILE_BINS), dtype=np.uint32)
    peaks = np.zeros((n, PEAK_QUANTILES), dtype=np.float32)
    bounds = np.append(clip_starts, n_frames)
    _by_clip(block.indptr, block.frames, block.values, bounds, clips, profile, peaks)
    maximum = np.zeros(n, dtype=np.float32)
    maximum[counts > 0] = ranked_values[block.indptr[:-1][counts > 0]]
    below, edges = np.zeros((n, 0), dtype=np.uint32), np.zeros((n, 1), dtype=np.float32)
    if uncut is not None:
        here, totals = slice(block.first, block.first + n), uncut.totals
        counts, clips, maximum = totals.active[here], totals.clips[here], totals.highest[here]
        below, edges = totals.below[here], bin_edges(uncut.floors[here])
    _by_value(
        block.indptr, ranked_values, below, edges, maximum, np.array(QUANTILES), histogram, quantiles, strong, mean
    )
    if uncut is not None:
        mean = uncut.totals.mean()[here]
    return {
        "n_active": counts,
        "density": counts / n_frames,
        "dense_share": strong / n_frames,
        "clip_share": clips / len(clip_starts),
        "max": maximum,
        "mean": mean.astype(np.float32),
        **{f"q{round(100 * q)}": np.ascontiguousarray(quantiles[:, i]) for i, q in enumerate(QUANTILES)},
        "dead": counts == 0,
        "histogram": histogram,
        "profile": profile,
        "clip_peaks": peaks,
    }


@numba.njit(cache=True, nogil=True)
def _by_value(indptr, values, below, edges, maximum, levels, histogram, quantiles, strong, mean):  # type: ignore[no-untyped-def]
    n_bins = histogram.shape[1]
    for i in range(len(indptr) - 1):
        start, stop = indptr[i], indptr[i + 1]
        n_all = stop - start + below[i].sum()
        if n_all == 0:
            continue
        top = maximum[i]
        total = 0.0
        for entry in range(start, stop):
            value = values[entry]
            total += value
            histogram[i, min(int(value / top * n_bins), n_bins - 1)] += 1
            strong[i] += value >= STRONG * top
        mean[i] = total / n_all
        for b in range(below.shape[1]):  # as if evenly spread over the bin
            high, low = edges[i, b], edges[i, b + 1]
            histogram[i, min(int((low + high) / 2 / top * n_bins), n_bins - 1)] += below[i, b]
            if high > low:
                strong[i] += int(below[i, b] * min(max((high - STRONG * top) / (high - low), 0.0), 1.0))
        for q in range(len(levels)):  # linear interpolation between neighbouring ranks, as in numpy
            at = (1.0 - levels[q]) * (n_all - 1)
            low_rank = int(at)
            a = _at_rank(values, start, stop, below[i], edges[i], low_rank)
            b = _at_rank(values, start, stop, below[i], edges[i], min(low_rank + 1, n_all - 1))
            quantiles[i, q] = a + (at - low_rank) * (b - a)


@numba.njit(cache=True, nogil=True)
def _at_rank(values, start, stop, below, edges, rank):  # type: ignore[no-untyped-def]
    """The value of a rank from the top, among entries and what is counted below them."""
    if rank < stop - start:
        return values[start + rank]
    rank -= stop - start
    for b in range(len(below)):
        if rank < below[b]:
            return edges[b] + (edges[b + 1] - edges[b]) * np.float32((rank + 0.5) / below[b])
        rank -= below[b]
    return np.float32(0)


@numba.njit(cache=True, nogil=True)
def _by_clip(indptr, frames, values, bounds, clips, profile, peaks):  # type: ignore[no-untyped-def]
    n_bins, n_quantiles = profile.shape[1], peaks.shape[1]
    found = np.empty(len(bounds), dtype=np.float32)
    for i in range(len(indptr) - 1):
        entry, end, n = indptr[i], indptr[i + 1], 0
        while entry < end:
            clip = np.searchsorted(bounds, np.int64(frames[entry]), side="right") - 1
            start, stop, peak = bounds[clip], bounds[clip + 1], np.float32(0)
            per_length = 1.0 / (stop - start)
            while entry < end and frames[entry] < stop:
                # the half keeps rounding away from whole numbers: a division, but quicker
                at = np.int64((np.float64((np.int64(frames[entry]) - start) * n_bins) + 0.5) * per_length)
                profile[i, at] += 1
                peak = max(peak, values[entry])
                entry += 1
            found[n] = peak
            n += 1
        clips[i] = n
        if n == 0:
            continue
        ranked = np.sort(found[:n])
        for q in range(n_quantiles):
            at = q / (n_quantiles - 1) * (n - 1)
            low = int(at)
            high = min(low + 1, n - 1)
            peaks[i, q] = ranked[low] + (at - low) * (ranked[high] - ranked[low])
