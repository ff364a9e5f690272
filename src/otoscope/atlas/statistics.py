"""What each feature does over the whole corpus: how often, how strongly, and how its values spread."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

HISTOGRAM_BINS = 40
"""Equal bins from 0 to the feature's maximum; only active (> 0) frames are counted."""

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Quantiles of the active values, reported as columns q10 … q99."""

STRONG = 0.1
"""A frame is strong when it reaches this share of the feature's maximum (`dense_share` counts them)."""


def feature_statistics(
    indptr: npt.NDArray[np.int64],
    frames: npt.NDArray[np.uint32],
    values: npt.NDArray[np.float32],
    clip_of_frame: npt.NDArray[np.int32],
    n_clips: int,
    n_frames: int,
) -> dict[str, npt.NDArray[np.generic]]:
    """Columns of `features.parquet` that need no labels, from ranked entries (falling values)."""
    n = len(indptr) - 1
    counts = np.diff(indptr)
    histogram = np.zeros((n, HISTOGRAM_BINS), dtype=np.uint32)
    quantiles = np.full((n, len(QUANTILES)), np.nan, dtype=np.float32)
    mean = np.zeros(n)
    strong = np.zeros(n, dtype=np.int64)
    clips = np.zeros(n, dtype=np.int64)
    _collect(
        indptr, frames, values, clip_of_frame, n_clips, np.array(QUANTILES), histogram, quantiles, mean, strong, clips
    )
    maximum = np.zeros(n, dtype=np.float32)
    alive = counts > 0
    maximum[alive] = values[indptr[:-1][alive]]
    return {
        "n_active": counts,
        "density": counts / n_frames,
        "dense_share": strong / n_frames,
        "clip_share": clips / n_clips,
        "max": maximum,
        "mean": mean.astype(np.float32),
        **{f"q{round(100 * q)}": quantiles[:, i] for i, q in enumerate(QUANTILES)},
        "dead": ~alive,
        "histogram": histogram,
    }


@numba.njit(cache=True, nogil=True)
def _collect(  # type: ignore[no-untyped-def]
    indptr, frames, values, clip_of_frame, n_clips, levels, histogram, quantiles, mean, strong, clips
):
    met = np.full(n_clips, -1, dtype=np.int64)
    n_bins = histogram.shape[1]
    for i in range(len(indptr) - 1):
        start, stop = indptr[i], indptr[i + 1]
        n = stop - start
        if n == 0:
            continue
        top = values[start]
        total = 0.0
        for entry in range(start, stop):
            value = values[entry]
            total += value
            histogram[i, min(int(value / top * n_bins), n_bins - 1)] += 1
            strong[i] += value >= STRONG * top
            clip = clip_of_frame[frames[entry]]
            if met[clip] != i:
                met[clip] = i
                clips[i] += 1
        mean[i] = total / n
        for q in range(len(levels)):  # linear interpolation between neighbouring ranks, as in numpy
            at = (1.0 - levels[q]) * (n - 1)
            low = int(at)
            high = min(low + 1, n - 1)
            quantiles[i, q] = values[start + low] + (at - low) * (values[start + high] - values[start + low])
