"""How selective values are for labels: AUROC, average precision, F1, purity, and the nulls to hold them against.

Throughout, `values [t]` (or `[t, u]` for u units) holds one number per frame and `labels [t]` one class per frame,
with −1 for frames that no class covers: those are dropped, never counted as negatives. A unit detects class c where
its value exceeds a threshold. Pairs of unit and class are chosen, and thresholds fixed, on one half of the voices and
scored on the other; `split_groups` makes the halves and `circular_shift` the null that keeps each label's rhythm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
Bools = npt.NDArray[np.bool_]


class Detection(NamedTuple):
    """A threshold and what detecting with `value > threshold` reaches."""

    threshold: float
    f1: float
    precision: float
    recall: float


class Purity(NamedTuple):
    """The class met most among a unit's strongest active frames (−1: too few frames) and its share of them."""

    label: int
    share: float


def _ranked_groups(values: Floats, positive: Bools) -> tuple[Floats, Floats, Floats]:
    """Distinct values in falling order, with the positives and the frames at or above each."""
    if values.shape != positive.shape or values.ndim != 1:
        raise ValueError(f"values {values.shape} and positive {positive.shape} must be one-dimensional and alike")
    distinct, group = np.unique(-values, return_inverse=True)
    hits = np.bincount(group, weights=positive, minlength=len(distinct)).cumsum()
    seen = np.bincount(group, minlength=len(distinct)).cumsum().astype(np.float64)
    return -distinct, hits, seen


def auroc(values: Floats, positive: Bools) -> float:
    """Probability that a positive frame's value exceeds a negative one's, ties counting half (Mann–Whitney U).

    NaN when either side is empty.
    """
    _, hits, seen = _ranked_groups(values, positive)
    n_positive = hits[-1] if len(hits) else 0.0
    n_negative = len(values) - n_positive
    if n_positive == 0 or n_negative == 0:
        return math.nan
    misses = seen - hits
    new_hits = np.diff(hits, prepend=0.0)
    below = n_negative - (misses + np.concatenate(([0.0], misses[:-1]))) / 2
    return float((new_hits * below).sum() / (n_positive * n_negative))


def average_precision(values: Floats, positive: Bools) -> float:
    """Σ (recall step) × (precision there), over distinct values in falling order; NaN without positives."""
    _, hits, seen = _ranked_groups(values, positive)
    if len(hits) == 0 or hits[-1] == 0:
        return math.nan
    return float((np.diff(hits, prepend=0.0) * hits / seen).sum() / hits[-1])


def f1_max(values: Floats, positive: Bools) -> Detection:
    """The threshold with the highest F1, half-way between neighbouring values, and what it reaches on these frames."""
    levels, hits, seen = _ranked_groups(values, positive)
    if len(hits) == 0 or hits[-1] == 0:
        return Detection(math.inf, 0.0, 0.0, 0.0)
    best = int(np.argmax(2 * hits / (seen + hits[-1])))
    threshold = (levels[best] + levels[best + 1]) / 2 if best + 1 < len(levels) else -math.inf
    return f1_at(values, positive, float(threshold))


def f1_at(values: Floats, positive: Bools, threshold: float) -> Detection:
    """F1, precision and recall of `values > threshold`; all 0 where nothing is found."""
    found = values > threshold
    hits = int((found & positive).sum())
    if hits == 0:
        return Detection(threshold, 0.0, 0.0, 0.0)
    n_found, n_positive = int(found.sum()), int(positive.sum())
    return Detection(threshold, 2 * hits / (n_found + n_positive), hits / n_found, hits / n_positive)


def purity(
    values: Floats, labels: Ints, *, label: int | None = None, share: float = 0.05, min_frames: int = 10
) -> Purity:
    """Share of one class among the strongest `share` of the active (> 0), labelled frames.

    Takes at least `min_frames` of them, and all that tie with the weakest one taken; fewer active frames give
    `Purity(-1, nan)`. The class is the most frequent one (the first, if several are), or `label` when it is given
    because it was chosen on other voices.
    """
    active = (values > 0) & (labels >= 0)
    values, labels = values[active], labels[active]
    if len(values) < min_frames:
        return Purity(-1, math.nan)
    take = max(min_frames, math.ceil(share * len(values)))
    weakest = np.partition(values, len(values) - take)[len(values) - take]
    counts = np.bincount(labels[values >= weakest])
    chosen = int(counts.argmax()) if label is None else label
    hits = int(counts[chosen]) if 0 <= chosen < len(counts) else 0
    return Purity(chosen, hits / int(counts.sum()))


def auroc_matrix(values: Floats, labels: Sequence[Ints], n_classes: int) -> npt.NDArray[np.float32]:
    """AUROC of every unit for every class against the other labelled frames, under several labellings at once.

    `values [t, u]` and `r` labellings `[t]` that cover the same frames give `[r, u, c]`, equal to `auroc` of each pair;
    NaN for classes without frames. Sorting each unit once serves the true labels and every shifted copy of them.
    """
    kept = labels[0] >= 0
    if any(((other >= 0) != kept).any() for other in labels):
        raise ValueError("the labellings must cover the same frames")
    values, labels = values[kept], [each[kept] for each in labels]
    n = len(values)
    sizes = np.stack([np.bincount(each, minlength=n_classes) for each in labels]).astype(np.float64)
    pairs = sizes * (n - sizes)
    scores = np.full((len(labels), values.shape[1], n_classes), np.nan, dtype=np.float32)
    for unit in range(values.shape[1]):
        order, ranks = _mean_ranks(values[:, unit])
        for r, each in enumerate(labels):
            rank_sum = np.bincount(each[order], weights=ranks, minlength=n_classes)
            wins = rank_sum - sizes[r] * (sizes[r] + 1) / 2
            np.divide(wins, pairs[r], out=scores[r, unit], where=pairs[r] > 0, casting="same_kind")
    return scores


def _mean_ranks(column: Floats) -> tuple[Ints, Floats]:
    """The order that sorts a column, and the ranks (from 1, ties share their mean) in that order."""
    order = np.argsort(column)
    column = column[order]
    first = np.concatenate(([True], column[1:] != column[:-1]))[: len(column)]
    starts = np.flatnonzero(first)
    mean_rank = (starts + np.append(starts[1:], len(column)) + 1) / 2
    return order, mean_rank[np.cumsum(first) - 1]


def circular_shift(labels: Ints, clip_starts: Ints, *, seed: int, min_shift: int = 50) -> Ints:
    """Labels rotated within each clip by a random number of frames, at least `min_shift` (50 frames = 1 s) either way.

    `clip_starts [b]` are the clips' first frames, ascending from 0. Only the labelled frames (≥ 0) rotate, among
    themselves; a clip with fewer than `2·min_shift` of them rotates by half its length, the most there is.
    """
    rng = np.random.default_rng(seed)
    shifted = labels.copy()
    for start, stop in zip(clip_starts, np.append(clip_starts[1:], len(labels)), strict=True):
        frames = start + np.flatnonzero(labels[start:stop] >= 0)
        n = len(frames)
        by = int(rng.integers(min_shift, n - min_shift + 1)) if n >= 2 * min_shift else n // 2
        shifted[frames] = np.roll(labels[frames], by)
    return shifted


def benjamini_hochberg(p_values: Floats) -> Floats:
    """False-discovery-rate adjusted p-values (Benjamini & Hochberg 1995), in the order given; NaN stays NaN."""
    adjusted = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(-p_values[tested], kind="stable")]
    m = len(order)
    if m:
        adjusted[order] = np.minimum(np.minimum.accumulate(p_values[order] * m / np.arange(m, 0, -1)), 1.0)
    return adjusted


def split_groups(groups: Sequence[str], weights: Sequence[float], *, seed: int) -> npt.NDArray[np.uint8]:
    """Halve items so that no group (a speaker) is in both halves: 0 to choose on, 1 to score on.

    Groups are dealt in random order, always to the half that weighs less so far.
    """
    totals: dict[str, float] = {}
    for group, weight in zip(groups, weights, strict=True):
        totals[group] = totals.get(group, 0.0) + weight
    names = sorted(totals)
    sums = [0.0, 0.0]
    half: dict[str, int] = {}
    for index in np.random.default_rng(seed).permutation(len(names)):
        name = names[index]
        half[name] = int(sums[1] < sums[0])
        sums[half[name]] += totals[name]
    return np.array([half[group] for group in groups], dtype=np.uint8)
