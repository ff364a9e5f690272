"""Naming features: which class each one detects, how well on voices it was not chosen on, and whether that is chance.

For a feature and a class, the threshold with the best F1 is fixed on one half of the voices; F1, precision, recall,
average precision and AUROC are measured on the other half. The null keeps thresholds and moves labels: rotated within
each clip, or dealt to other clips where a label holds for whole clips. Values are exact, not binned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.evaluation import scoring
from otoscope.evaluation.by_feature import Block
from otoscope.evaluation.label_sets import LabelSet

N_RANKED = 10
"""Classes kept for every feature."""
N_BEST = 20
"""Features kept for every class."""
N_SHIFTS = 32
"""Times the labels are moved for the null."""
MIN_SHIFT = 25
"""Labels rotate by at least this many frames (0.5 s), or a quarter of a shorter clip, either way."""
MAX_CLUSTERS = 512
"""Clips are the clusters of confidence intervals; beyond this number, groups of clips are."""
PURITY_SHARE, PURITY_MIN_FRAMES = 0.05, 10

Rows = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Null:
    """Where the scored half's labels lie, clip after clip, and how they move.

    Attributes:
        position: `[t]` number of each frame among the scored half's labelled frames, −1 elsewhere.
        clip, start: their clip `[p]` (clips counted anew), and each clip's first frame among them.
        moves: `[s, clip]` how far each clip's labels rotate; for labels of whole clips, the class each clip is dealt.
        rings: each clip's labels twice in a row; empty for labels of whole clips.
        n_positive: `[s, c]` frames of each class after the move.
        cluster: cluster of each clip, and `cluster_positive [g, c]` the frames of each class in each cluster.
    """

    position: npt.NDArray[np.int32]
    clip: npt.NDArray[np.int32]
    start: npt.NDArray[np.int64]
    moves: npt.NDArray[np.int64]
    rings: npt.NDArray[np.int16]
    n_positive: npt.NDArray[np.int64]
    cluster: npt.NDArray[np.int32]
    cluster_positive: npt.NDArray[np.int64]

    def hits(
        self,
        values: npt.NDArray[np.float32],
        frames: npt.NDArray[np.uint32],
        threshold: npt.NDArray[np.float64],
        wanted: npt.NDArray[np.intp],
    ) -> npt.NDArray[np.int64]:
        """Frames `[s, c]` of each wanted class found above its threshold after each move."""
        hits = np.zeros((len(self.moves), len(threshold)), dtype=np.int64)
        where = (values, frames, threshold, self.position, self.clip)
        if len(self.rings):
            scoring.rotated_hits(*where, self.start, self.rings, self.moves, hits)
        else:
            scoring.dealt_hits(*where, wanted, self.moves, hits)
        return hits


class Labeller:
    """Scores features against the label sets of one corpus. Thread-safe: calls share nothing they write to."""

    def __init__(
        self,
        sets: list[LabelSet],
        clip_of_frame: npt.NDArray[np.int32],
        half_of_clip: npt.NDArray[np.uint8],
        *,
        seed: int,
        n_shifts: int = N_SHIFTS,
    ) -> None:
        self.sets = sets
        self.half = half_of_clip[clip_of_frame]
        self.n_positive = [_count(each, self.half) for each in sets]
        self.nulls = [_null(each, clip_of_frame, self.half, seed, n_shifts) for each in sets]
        self.first_class = np.cumsum([0, *(len(each.classes) for each in sets)])

    def label(self, block: Block) -> tuple[Rows, Rows]:
        """Score the features of a block whose entries are ranked (falling values).

        Returns rows of (feature, class) pairs — each feature's best classes and, within the block, each class's best
        features — and the features' purities.
        """
        skill, threshold = self.chosen(block)
        return self.scored(block, _keep(skill), skill, threshold), self._purities(block)

    def chosen(self, block: Block) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return skill and threshold `[n, c]` of every feature and class, from the choosing half alone.

        Skill is the best F1 as the share of the way from always-on (0) to perfect (1); the classes of all sets follow
        one another.
        """
        n, n_classes = len(block), int(self.first_class[-1])
        skill = np.zeros((n, n_classes))
        threshold = np.full((n, n_classes), np.inf)
        for i in range(n):
            self._choose(block, i, skill[i], threshold[i])
        return skill, threshold

    def scored(
        self,
        block: Block,
        keep: npt.NDArray[np.bool_],
        skill: npt.NDArray[np.float64],
        threshold: npt.NDArray[np.float64],
    ) -> Rows:
        """Measure the pairs `keep [n, c]` on the scoring half: one row each, features in order, then classes."""
        parts = [self._score(block, i, np.flatnonzero(keep[i]), skill[i], threshold[i]) for i in range(len(block))]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _entries(self, block: Block, i: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint32]]:
        span = slice(int(block.indptr[i]), int(block.indptr[i + 1]))
        return block.values[span], block.frames[span]

    def _choose(self, block: Block, i: int, skill: npt.NDArray[np.float64], threshold: npt.NDArray[np.float64]) -> None:
        """Best F1 on the choosing half, as the share of the way from always-on (0) to perfect (1)."""
        values, frames = self._entries(block, i)
        for each, n_positive, first in zip(self.sets, self.n_positive, self.first_class, strict=False):
            f1, at = np.zeros(n_positive.shape[1]), np.zeros(n_positive.shape[1])
            scoring.choose_thresholds(values, frames, each.frame_class, self.half, n_positive, f1, at)
            always = always_on_f1(n_positive[scoring.CHOOSE])
            span = slice(first, first + len(each.classes))
            skill[span] = ((f1 - always) / (1 - always))[: len(each.classes)]
            threshold[span] = at[: len(each.classes)]

    def _score(
        self,
        block: Block,
        i: int,
        chosen: npt.NDArray[np.intp],
        skill: npt.NDArray[np.float64],
        threshold: npt.NDArray[np.float64],
    ) -> Rows:
        """Measure the chosen classes of one feature on the scoring half."""
        values, frames = self._entries(block, i)
        parts = []
        for which, each in enumerate(self.sets):
            first = int(self.first_class[which])
            wanted = chosen[(chosen >= first) & (chosen < first + len(each.classes))] - first
            if len(wanted) == 0:
                continue
            at = np.full(len(each.classes) + 1, np.inf)
            at[wanted] = threshold[first + wanted]
            parts.append(self._measure(which, values, frames, wanted, at))
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else _no_rows()
        rows["feature"] = np.full(len(chosen), block.first + i, dtype=np.int64)
        rows["class"] = chosen.astype(np.int32)
        rows["skill"] = skill[chosen]
        rows["threshold"] = threshold[chosen]
        return rows

    def _measure(
        self,
        which: int,
        values: npt.NDArray[np.float32],
        frames: npt.NDArray[np.uint32],
        wanted: npt.NDArray[np.intp],
        threshold: npt.NDArray[np.float64],
    ) -> Rows:
        each, null, n_positive = self.sets[which], self.nulls[which], self.n_positive[which]
        size = len(threshold)
        hits, found = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
        ap, auroc = np.zeros(size), np.zeros(size)
        scoring.score_classes(
            values, frames, each.frame_class, self.half, n_positive, threshold, hits, found, ap, auroc
        )
        positive = n_positive[scoring.SCORE]
        f1 = 2 * hits / np.maximum(found + positive, 1)
        variance = np.zeros(len(wanted))
        scoring.clustered_variance(
            values, frames, threshold, wanted, null.position, null.clip, null.cluster, each.frame_class,
            null.cluster_positive, f1, found, variance,
        )  # fmt: skip
        moved = null.hits(values, frames, threshold, wanted)
        null_f1 = 2 * moved[:, wanted] / np.maximum(found[wanted] + null.n_positive[:, wanted], 1)
        one_frame = 2 / np.maximum(found[wanted] + positive[wanted], 1)
        clusters = (null.cluster_positive[:, wanted] > 0).sum(axis=0)
        low, high = f1_interval(f1[wanted], variance, clusters)
        return {
            "f1": f1[wanted],
            "f1_low": low,
            "f1_high": high,
            "precision": hits[wanted] / np.maximum(found[wanted], 1),
            "recall": hits[wanted] / np.maximum(positive[wanted], 1),
            "ap": ap[wanted] / np.maximum(positive[wanted], 1),
            "auroc": auroc[wanted],
            "chance": null_f1.mean(axis=0),
            "p_value": shift_p_value(f1[wanted], null_f1, one_frame),
        }

    def _purities(self, block: Block) -> Rows:
        n = len(block)
        label, share = np.full(n, -1, dtype=np.int32), np.full(n, np.nan)
        if self.sets:
            each = self.sets[0]
            for i in range(n):
                values, frames = self._entries(block, i)
                label[i], share[i] = scoring.purest_class(
                    values, frames, each.frame_class, self.half, len(each.classes), PURITY_SHARE, PURITY_MIN_FRAMES
                )
        return {"purity_class": label, "purity": share}


_COLUMNS = ("f1", "f1_low", "f1_high", "precision", "recall", "ap", "auroc", "chance", "p_value")


def _no_rows() -> Rows:
    return {name: np.zeros(0) for name in _COLUMNS}


def _keep(skill: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Pairs better than always-on that are among a feature's best classes or a class's best features."""
    n, n_classes = skill.shape
    keep = np.zeros((n, n_classes), dtype=bool)
    by_feature = np.argsort(-skill, axis=1, kind="stable")[:, :N_RANKED]
    np.put_along_axis(keep, by_feature, True, axis=1)
    by_class = np.argsort(-skill, axis=0, kind="stable")[:N_BEST]
    np.put_along_axis(keep, by_class, True, axis=0)
    return keep & (skill > 0)


def always_on_f1(n_positive: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """F1 of a detector that fires on every frame, for each class: what a label must beat."""
    return np.asarray(2 * n_positive / np.maximum(n_positive + n_positive.sum(), 1), dtype=np.float64)


def shift_p_value(
    observed: npt.NDArray[np.float64], null: npt.NDArray[np.float64], floor: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """One-sided p-values of `observed [c]` under a null sampled by `null [s, c]`, from a t distribution.

    A few dozen shifts cannot show a p of 10⁻⁴ by counting; their mean and spread can. The spread is never taken to
    be under `floor [c]`, what one frame changes, so a rare label with an empty null proves nothing by itself.
    """
    n = len(null)
    spread = np.sqrt(null.var(axis=0, ddof=1) + floor**2) * math.sqrt(1 + 1 / n)
    t = (observed - null.mean(axis=0)) / spread
    dof = n - 1  # Wallace (1959): t with dof degrees of freedom as a normal deviate, good to 0.2 %
    z = np.sign(t) * (8 * dof + 1) / (8 * dof + 3) * np.sqrt(dof * np.log1p(t * t / dof))
    return np.array([0.5 * math.erfc(each / math.sqrt(2)) for each in z])


def f1_interval(
    f1: npt.NDArray[np.float64], variance: npt.NDArray[np.float64], clusters: npt.NDArray[np.int64], z: float = 1.96
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """95 % interval: Wilson's, with the sample size that would have this variance.

    Where the variance says nothing (F1 of 0 or 1, or a single clip) the number of clusters holding the class is taken.
    """
    plain = f1 * (1 - f1)
    usable = (variance > 0) & (clusters > 1)
    size = np.where(usable, plain / np.where(usable, variance, 1.0), np.maximum(clusters, 1))
    size = np.maximum(size, 1.0)
    centre = (f1 + z * z / (2 * size)) / (1 + z * z / size)
    margin = z / (1 + z * z / size) * np.sqrt(plain / size + z * z / (4 * size * size))
    return np.clip(centre - margin, 0.0, f1), np.clip(centre + margin, f1, 1.0)


def _count(labels: LabelSet, half: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    size = len(labels.classes) + 1
    known = labels.frame_class >= 0
    return np.stack(
        [np.bincount(labels.frame_class[known & (half == side)], minlength=size) for side in (0, 1)]
    ).astype(np.int64)


def _null(
    labels: LabelSet,
    clip_of_frame: npt.NDArray[np.int32],
    half: npt.NDArray[np.uint8],
    seed: int,
    n_shifts: int,
) -> _Null:
    frames = np.flatnonzero((half == scoring.SCORE) & (labels.frame_class >= 0))
    position = np.full(len(half), -1, dtype=np.int32)
    position[frames] = np.arange(len(frames), dtype=np.int32)
    _, clip, length = np.unique(clip_of_frame[frames], return_inverse=True, return_counts=True)
    start = np.cumsum(length) - length
    rng = np.random.default_rng([seed, len(labels.classes), len(frames)])
    size = len(labels.classes) + 1
    held = labels.frame_class[frames]
    cluster = np.arange(len(length), dtype=np.int32) % MAX_CLUSTERS
    cluster_positive = np.zeros((min(len(length), MAX_CLUSTERS), size), dtype=np.int64)
    np.add.at(cluster_positive, (cluster[clip], held), 1)
    if labels.whole_clips:
        rings = np.zeros(0, dtype=np.int16)
        moves = np.stack([held[start][rng.permutation(len(length))] for _ in range(n_shifts)]).astype(np.int64)
        n_positive = [np.bincount(row, weights=length, minlength=size) for row in moves]
    else:
        rings = np.concatenate([np.tile(each, 2) for each in np.split(held, start[1:])])
        least = np.minimum(MIN_SHIFT, length // 4)
        moves = rng.integers(least, length - least + 1, size=(n_shifts, len(length)))
        n_positive = [np.bincount(held, minlength=size)] * n_shifts
    return _Null(
        position=position,
        clip=clip.astype(np.int32),
        start=start,
        moves=moves,
        rings=rings,
        n_positive=np.stack(n_positive).astype(np.int64),
        cluster=cluster,
        cluster_positive=cluster_positive,
    )
