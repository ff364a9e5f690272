"""How well predicted times agree with known ones: shares of boundaries within so many milliseconds, over clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from otoscope.audio import Interval
from otoscope.errors import InputError

WITHIN_MS = (20, 50, 100)
_TOUCH_S = 0.0015
_GAP, _OTHER, _PER_SECOND = 1.0, 1.2, 0.5

Tier = Sequence[Interval]


@dataclass(frozen=True)
class ClipErrors:
    """One clip: the error of each known boundary that has a counterpart, in seconds, and how many have none."""

    errors_s: np.ndarray
    missed: int
    """Known boundaries without counterpart; they count as not within any tolerance."""
    extra: int
    """Predicted intervals without counterpart."""


@dataclass(frozen=True)
class BoundaryReport:
    """Agreement over clips, with 95 % intervals from resampling the clips."""

    within: Mapping[int, float]
    """Share of the known boundaries whose counterpart lies within so many ms."""
    within_interval: Mapping[int, tuple[float, float]]
    median_ms: float
    median_interval_ms: tuple[float, float]
    p95_ms: float
    bias_ms: float
    """Median signed error: positive is late."""
    boundaries: int
    missed: int
    extra: int
    clips: int

    def __repr__(self) -> str:
        shares = ", ".join(f"{share:.1%} ≤ {ms} ms" for ms, share in self.within.items())
        return (
            f"BoundaryReport({shares}; median {self.median_ms:.0f} ms, 95 % {self.p95_ms:.0f} ms; "
            f"{self.boundaries} boundaries of {self.clips} clips, {self.missed} missed, {self.extra} extra)"
        )


def boundary_report(
    predicted: Sequence[Tier],
    reference: Sequence[Tier],
    *,
    fold: Callable[[str], str] = str.casefold,
    within_ms: Sequence[int] = WITHIN_MS,
    n_resamples: int = 1000,
    seed: int = 0,
) -> BoundaryReport:
    """Compare predicted tiers with known ones, clip by clip.

    Intervals are paired in order (edit distance over the labels as `fold` sees them, near times preferred); a pair
    gives the start's error, and the end's where no interval follows at once. Pauses must have been left out.

    Raises:
        InputError: not as many predicted tiers as known ones, or no boundary at all.
    """
    if len(predicted) != len(reference):
        raise InputError(f"There are {len(predicted)} predicted tiers for {len(reference)} known ones; give one each.")
    clips = [clip_errors(ours, theirs, fold) for ours, theirs in zip(predicted, reference, strict=True)]
    counts = np.array([len(clip.errors_s) + clip.missed for clip in clips])
    if not counts.sum():
        raise InputError("The known tiers have no interval to compare with.")
    hits = np.array([[(np.abs(c.errors_s) <= ms / 1000 + 1e-9).sum() for ms in within_ms] for c in clips])
    rng = np.random.default_rng(seed)
    shares, medians = [], []
    for _ in range(n_resamples):
        drawn = rng.integers(len(clips), size=len(clips))
        if counts[drawn].sum():
            shares.append(hits[drawn].sum(0) / counts[drawn].sum())
            medians.append(
                np.median(np.abs(np.concatenate([clips[i].errors_s for i in drawn] or [np.zeros(0)]))) * 1000
            )
    low, high = np.percentile(shares, [2.5, 97.5], axis=0)
    errors = np.concatenate([clip.errors_s for clip in clips])
    some = errors if len(errors) else np.array([np.nan])
    return BoundaryReport(
        within={ms: float(hits[:, i].sum() / counts.sum()) for i, ms in enumerate(within_ms)},
        within_interval={ms: (float(low[i]), float(high[i])) for i, ms in enumerate(within_ms)},
        median_ms=float(np.median(np.abs(some)) * 1000),
        median_interval_ms=(float(np.nanpercentile(medians, 2.5)), float(np.nanpercentile(medians, 97.5))),
        p95_ms=float(np.percentile(np.abs(some), 95) * 1000),
        bias_ms=float(np.median(some) * 1000),
        boundaries=int(counts.sum()),
        missed=sum(clip.missed for clip in clips),
        extra=sum(clip.extra for clip in clips),
        clips=len(clips),
    )


def clip_errors(predicted: Tier, reference: Tier, fold: Callable[[str], str] = str.casefold) -> ClipErrors:
    """Return the errors of one clip's boundaries (predicted − known)."""
    partner = _pairs(predicted, reference, fold)
    errors, missed = [], 0
    for number, known in enumerate(reference):
        follows = number + 1 < len(reference) and reference[number + 1].start_s - known.end_s <= _TOUCH_S
        other = partner.get(number)
        if other is None:
            missed += 1 if follows else 2
            continue
        errors.append(predicted[other].start_s - known.start_s)
        if not follows:
            errors.append(predicted[other].end_s - known.end_s)
    return ClipErrors(np.array(errors, dtype=np.float64), missed, len(predicted) - len(partner))


def _pairs(predicted: Tier, reference: Tier, fold: Callable[[str], str]) -> dict[int, int]:
    """Pair known with predicted intervals in order: same labels cost nothing but their distance in time."""
    ours, theirs = [fold(each.label) for each in predicted], [fold(each.label) for each in reference]
    cost = np.zeros((len(theirs) + 1, len(ours) + 1))
    cost[:, 0], cost[0, :] = np.arange(len(theirs) + 1) * _GAP, np.arange(len(ours) + 1) * _GAP
    step = np.zeros(cost.shape, dtype=np.int8)
    step[:, 0], step[0, :] = 1, 2
    middle = [(each.start_s + each.end_s) / 2 for each in predicted]
    for i, known in enumerate(reference, 1):
        at = (known.start_s + known.end_s) / 2
        for j in range(1, len(ours) + 1):
            apart = min(1.0, abs(middle[j - 1] - at)) * _PER_SECOND
            together = cost[i - 1, j - 1] + apart + (0.0 if theirs[i - 1] == ours[j - 1] else _OTHER)
            options = (together, cost[i - 1, j] + _GAP, cost[i, j - 1] + _GAP)
            step[i, j] = int(np.argmin(options))
            cost[i, j] = options[step[i, j]]
    found: dict[int, int] = {}
    i, j = len(theirs), len(ours)
    while i or j:
        if step[i, j] == 0:
            found[i - 1] = j - 1
        i, j = i - int(step[i, j] != 2), j - int(step[i, j] != 1)
    return found


def uniform_tier(labels: Sequence[str], end_s: float, start_s: float = 0.0) -> tuple[Interval, ...]:
    """The control: the labels spread evenly over the clip (or the speech in it), each as long as the others."""
    edges_s = np.linspace(start_s, end_s, len(labels) + 1)
    return tuple(Interval(float(a), float(b), label) for a, b, label in zip(edges_s, edges_s[1:], labels, strict=False))
