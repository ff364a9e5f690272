"""What is measured on the scored half: a band of a feature's values against one class or a few, and its chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.evaluation import scoring
from otoscope.evaluation.bands import MAX_BANDS, MAX_MEMBERS
from otoscope.evaluation.by_feature import Block
from otoscope.evaluation.labelling import SCORE, Labelling

MAX_ASIDE = MAX_BANDS - 1

Rows = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]


@dataclass
class Targets:
    """Rows to measure, in any order: feature within its block, kind, value band, classes that are right.

    `aside`: classes of the kind that were set aside, with the frames near them; `outside`: (column of a kind, class)
    whose frames do not count.
    """

    feature: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    members: list[tuple[int, ...]] = field(default_factory=list)
    aside: list[tuple[int, ...]] = field(default_factory=list)
    outside: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.feature)

    def add(
        self,
        feature: int,
        kind: int,
        members: Sequence[int],
        low: float,
        high: float = math.inf,
        aside: Sequence[int] = (),
        outside: tuple[int, int] = (-1, -1),
    ) -> int:
        """Add a row; returns its number."""
        self.feature.append(feature)
        self.kind.append(kind)
        self.members.append((*members, *[-1] * (MAX_MEMBERS - len(members))))
        self.low.append(low)
        self.high.append(high)
        self.aside.append((*aside, *[-1] * (MAX_ASIDE - len(aside))))
        self.outside.append(outside)
        return len(self.feature) - 1


def measure(labelling: Labelling, block: Block, targets: Targets) -> Rows:
    """Return the figures of every target, in the order in which they were added.

    `f1`, `f1_low`, `f1_high` (95 %, clusters of clips), `precision`, `recall`, `chance` (mean F1 with moved labels) and
    `p_value`. Entries of the block must ascend in frames.
    """
    n, n_kinds = len(targets), len(labelling.kinds)
    feature, kind = np.array(targets.feature, dtype=np.int64), np.array(targets.kind, dtype=np.int64)
    order = np.argsort(feature, kind="stable")
    members = np.array(targets.members, dtype=np.int16).reshape(n, MAX_MEMBERS)
    aside = np.array(targets.aside, dtype=np.int16).reshape(n, MAX_ASIDE)
    outside = np.array(targets.outside, dtype=np.int16).reshape(n, 2)
    low, high = np.array(targets.low, dtype=np.float64), np.array(targets.high, dtype=np.float64)
    of_cluster, positive, dealt = _positives(labelling, kind, members, aside, outside)
    hits, found = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    moved, rest = (np.zeros((n, labelling.n_shifts), dtype=np.int32) for _ in range(2))
    run, squares = np.zeros((n, 3), dtype=np.int64), np.zeros((n, 3))
    run[:, 0] = -1
    state: list[npt.NDArray[Any]] = [kind, low, high, members, aside, outside, of_cluster]
    sums: list[npt.NDArray[Any]] = [hits, found, moved, rest, run, squares]
    mine = [np.ascontiguousarray(each[order]) for each in state]
    found_sums = [np.ascontiguousarray(each[order]) for each in sums]
    indptr = np.searchsorted(feature[order], np.arange(len(block) + 1))
    cursor = block.indptr[:-1].copy()
    empty = np.zeros((0, 0), dtype=np.int16)
    deals = tuple(labelling.dealt[k] if labelling.whole[k] else empty for k in range(n_kinds))
    for number in range(labelling.n_parts) if n else ():
        part = labelling.part(number)
        scoring.measure(
            part.first, part.first_clip, part.classes, part.clip, part.place, part.track, part.ring, part.ring_start,
            part.ring_length, part.moves, labelling.cluster, block.indptr, block.frames, block.values, cursor, indptr,
            *mine, deals, *found_sums,
        )  # fmt: skip
    for own, each in zip(sums, found_sums, strict=True):
        own[order] = each
    for target in np.flatnonzero(run[:, 0] >= 0):
        scoring.flush(run, squares, target, kind[target], of_cluster)
    return _figures(hits, found, moved, rest, squares, of_cluster, positive, dealt, aside)


def _positives(
    labelling: Labelling,
    kind: npt.NDArray[np.int64],
    members: npt.NDArray[np.int16],
    aside: npt.NDArray[np.int16],
    outside: npt.NDArray[np.int16],
) -> tuple[npt.NDArray[np.int32], Floats, Floats]:
    """Right frames of each target: by cluster `[t, g]`, in all `[t]`, and after each move of the labels `[t, s]`.

    With classes set aside, the frames near these are taken off, clusters losing their share.
    """
    n = len(kind)
    of_cluster = np.zeros((n, int(labelling.cluster.max(initial=0)) + 1), dtype=np.int32)
    positive, dealt = np.zeros(n), np.zeros((n, labelling.n_shifts))
    for k in np.unique(kind):
        own = np.flatnonzero(kind == k)
        counts, by_cluster = labelling.n_positive[k][SCORE], labelling.cluster_positive[k]
        near = labelling.near.get(labelling.kinds[k].name)
        for j in range(members.shape[1]):
            rows = own[members[own, j] >= 0]
            classes = members[rows, j]
            of_cluster[rows] += by_cluster[:, classes].T.astype(np.int32)
            positive[rows] += counts[classes]
            dealt[rows] += labelling.dealt_positive[k][:, classes].T if labelling.whole[k] else counts[classes][:, None]
            for a in range(aside.shape[1]):
                lost = rows[aside[rows, a] >= 0]
                if near is not None and len(lost):
                    positive[lost] -= near[SCORE][aside[lost, a], members[lost, j]]
        away = own[outside[own, 0] >= 0]
        if len(away):
            positive[away] -= labelling.in_word[SCORE][members[away, 0], outside[away, 1]]
    whole = of_cluster.sum(axis=1)
    positive = np.clip(positive, 0, None)
    share = positive / np.maximum(whole, 1)
    changed = np.flatnonzero(share < 1)
    of_cluster[changed] = np.rint(of_cluster[changed] * share[changed, None]).astype(np.int32)
    return of_cluster, positive, dealt * share[:, None]


def _figures(
    hits: npt.NDArray[np.int64],
    found: npt.NDArray[np.int64],
    moved: npt.NDArray[np.int32],
    rest: npt.NDArray[np.int32],
    squares: Floats,
    of_cluster: npt.NDArray[np.int32],
    positive: Floats,
    dealt: Floats,
    aside: npt.NDArray[np.int16],
) -> Rows:
    f1 = np.minimum(2 * hits / np.maximum(found + positive, 1), 1.0)
    counts = of_cluster.astype(np.float64)
    total = np.maximum(found + positive, 1)
    both = squares[:, 2] + (counts**2).sum(axis=1)
    n_clusters = max(of_cluster.shape[1], 2)
    spread = 4 * squares[:, 0] - 4 * f1 * squares[:, 1] + f1**2 * both
    variance = n_clusters / (n_clusters - 1) * np.maximum(spread, 0) / total**2
    low, high = f1_interval(f1, variance, (of_cluster > 0).sum(axis=1))
    scale = np.where(aside[:, :1] >= 0, found[:, None] / np.maximum(rest, 1), 1.0)
    null = np.minimum(2 * moved * scale / np.maximum(found[:, None] + dealt, 1), 1.0)
    one_frame = 2 / total
    return {
        "f1": f1,
        "f1_low": low,
        "f1_high": high,
        "precision": hits / np.maximum(found, 1),
        "recall": np.minimum(hits / np.maximum(positive, 1), 1.0),
        "chance": null.mean(axis=1),
        "p_value": shift_p_value(f1, null.T, one_frame) if len(f1) else np.zeros(0),
    }


def shift_p_value(observed: Floats, null: Floats, floor: Floats) -> Floats:
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
    f1: Floats, variance: Floats, clusters: npt.NDArray[np.integer], z: float = 1.96
) -> tuple[Floats, Floats]:
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
