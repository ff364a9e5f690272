"""What is measured on the scored half: a band of a feature's values against one class or a few, and its chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.evaluation.naming import scoring
from otoscope.evaluation.naming.bands import MAX_BANDS, MAX_MEMBERS
from otoscope.evaluation.naming.by_feature import Block
from otoscope.evaluation.naming.label_sets import SPEECH
from otoscope.evaluation.naming.labelling import SCORE, Labelling

MAX_ASIDE = MAX_BANDS - 1
MIN_FOUND_SHARE = 0.2
"""Of an interval of a class at least this share counts as found at once, when it is asked what chance may do."""
DEALT_TOGETHER = 128
"""Rows whose deals are looked at together."""

MAX_DOF, MAX_SHAPE = 200, 100.0
"""Degrees of freedom are taken to be no more; beyond this shape, the root of a gamma variable is expanded."""

_COLUMNS = 2 + MAX_MEMBERS + MAX_ASIDE + 2

Rows = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]


class Targets:
    """Rows to measure, in any order: feature within its block, kind, value band, classes that are right.

    Also classes of the kind that were set aside, with the frames near them; and, `outside`, (column of a kind, class)
    whose frames do not count.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[npt.NDArray[np.int64], Floats]] = []
        self._rows: list[tuple[int, ...]] = []
        self._bands: list[tuple[float, float]] = []
        self._n_pairs = 0

    def __len__(self) -> int:
        return self._n_pairs + len(self._rows)

    def add_pairs(
        self,
        feature: npt.NDArray[np.int64],
        kind: npt.NDArray[np.int64],
        member: npt.NDArray[np.int64],
        low: Floats,
    ) -> None:
        """Add a row for each class above each threshold; only before other rows."""
        pairs = np.full((len(feature), _COLUMNS), -1, dtype=np.int64)
        pairs[:, 0], pairs[:, 1], pairs[:, 2] = feature, kind, member
        self._pairs.append((pairs, np.stack([low, np.full(len(low), np.inf)], axis=1)))
        self._n_pairs += len(feature)

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
        free = [-1] * (MAX_MEMBERS - len(members)), [-1] * (MAX_ASIDE - len(aside))
        self._rows.append((feature, kind, *members, *free[0], *aside, *free[1], *outside))
        self._bands.append((low, high))
        return len(self) - 1

    def arrays(self) -> tuple[npt.NDArray[np.int64], Floats]:
        """Return `[t, 11]` feature, kind, members, classes set aside and `outside` of all rows, and `[t, 2]` bands."""
        rows = np.array(self._rows, dtype=np.int64).reshape(-1, _COLUMNS)
        bands = np.array(self._bands, dtype=np.float64).reshape(-1, 2)
        return np.concatenate([*(each for each, _ in self._pairs), rows]), np.concatenate(
            [*(each for _, each in self._pairs), bands]
        )


def measure(labelling: Labelling, block: Block, targets: Targets) -> Rows:
    """Return the figures of every target, in the order in which they were added.

    `f1`, `f1_low`, `f1_high` (95 %, clusters of clips), `precision`, `recall`, `chance` (mean F1 with moved labels) and
    `p_value`. Entries of the block must ascend in frames.
    """
    table, band = targets.arrays()
    order = np.lexsort((table[:, 1], table[:, 0]))
    table, band = table[order], band[order]
    rows = _Rows.of(labelling, table, band)
    n, n_whole = len(order), int(rows.whole.max(initial=-1)) + 1
    n_deals = max([table.shape[1] for table in labelling.dealt[1]], default=0)
    hits, found, hit_clips = (np.zeros(n, dtype=np.int64) for _ in range(3))
    chance, rest = np.zeros((n, 3)), np.zeros(n)
    dealt_hits, dealt_rest = (np.zeros((n_whole, n_deals), dtype=np.int32) for _ in range(2))
    run, squares = np.zeros((n, 3), dtype=np.int64), np.zeros((n, 3))
    run[:, 0] = -1
    indptr = np.searchsorted(table[:, 0], np.arange(len(block) + 1))
    cursor = block.indptr[:-1].copy()
    speech = np.array([_speech(each.classes) for each in labelling.kinds], dtype=np.int16)
    for number in range(labelling.n_parts) if n else ():
        part = labelling.part(number)
        scoring.measure(
            part.first, part.first_clip, part.classes, part.clip, part.place, part.track, part.ring, part.ring_start,
            part.ring_length, part.moves, labelling.n_moves, labelling.cluster, labelling.near_frames, block.indptr,
            block.frames, block.values, cursor, indptr, rows.kind, rows.low, rows.high, rows.members, rows.aside,
            rows.outside, rows.whole, rows.of_cluster, rows.right, speech, labelling.unit, *labelling.dealt,
            *labelling.dealt_bounds, hits, found, chance, rest, dealt_hits, dealt_rest, hit_clips, run, squares,
        )  # fmt: skip
    scoring.flush_all(run, squares, rows.of_cluster, rows.right)
    figures = _figures(rows, hits, found, squares)
    _add_chance(figures, rows, found, chance, rest, labelling.n_moves[rows.kind])
    _add_chance_of_deals(figures, labelling, rows, found, dealt_hits, dealt_rest, hit_clips)
    back = np.empty(n, dtype=np.int64)
    back[order] = np.arange(n)
    return {name: values[back] for name, values in figures.items()}


def _speech(classes: tuple[str, ...]) -> int:
    return classes.index(SPEECH) if SPEECH in classes else -1


@dataclass(frozen=True)
class _Rows:
    """Targets as arrays `[t]`, sorted by feature.

    `of_cluster [r, g]` and `positive [t]` are the right frames of each, by cluster and in all: without those near
    classes set aside, or in the class left out, clusters losing their share of these. `share`: what that leaves.
    `right [t]` is each target's row of `of_cluster`: many targets have the same classes.
    `length [t]`: how many frames one interval of its class has.
    """

    kind: npt.NDArray[np.int64]
    low: Floats
    high: Floats
    members: npt.NDArray[np.int16]
    aside: npt.NDArray[np.int16]
    outside: npt.NDArray[np.int16]
    whole: npt.NDArray[np.int64]
    of_cluster: npt.NDArray[np.int32]
    right: npt.NDArray[np.int64]
    positive: Floats
    share: Floats
    length: Floats

    @classmethod
    def of(cls, labelling: Labelling, table: npt.NDArray[np.int64], band: Floats) -> _Rows:
        classes, right = np.unique(table[:, 1:], axis=0, return_inverse=True)
        n, kind = len(classes), classes[:, 0]
        members, aside = classes[:, 1 : 1 + MAX_MEMBERS], classes[:, 1 + MAX_MEMBERS : -2]
        outside = classes[:, -2:]
        of_cluster = np.zeros((n, int(labelling.cluster.max(initial=0)) + 1), dtype=np.int32)
        positive, length = np.zeros(n), np.ones(n)
        for k in np.unique(kind):
            own = np.flatnonzero(kind == k)
            frames = labelling.n_positive[k].sum(axis=0)[:-1] / np.maximum(labelling.kinds[k].n_intervals, 1)
            length[own] = frames[members[own, 0]]
            counts, by_cluster = labelling.n_positive[k][SCORE], labelling.cluster_positive[k]
            near = labelling.near.get(labelling.kinds[k].name)
            for j in range(MAX_MEMBERS):
                rows = own[members[own, j] >= 0]
                of_cluster[rows] += by_cluster[members[rows, j]]
                positive[rows] += counts[members[rows, j]]
                for a in range(MAX_ASIDE):
                    lost = rows[aside[rows, a] >= 0]
                    if near is not None and len(lost):
                        positive[lost] -= near[SCORE][aside[lost, a], members[lost, j]]
            away = own[outside[own, 0] >= 0]
            if len(away):
                positive[away] -= labelling.in_word[SCORE][members[away, 0], outside[away, 1]]
        positive = np.clip(positive, 0, None)
        share = positive / np.maximum(of_cluster.sum(axis=1), 1)
        changed = np.flatnonzero(share < 1)
        of_cluster[changed] = np.rint(of_cluster[changed] * share[changed, None]).astype(np.int32)
        held = labelling.whole[kind[right]]
        return cls(
            kind=kind[right],
            low=np.ascontiguousarray(band[:, 0]),
            high=np.ascontiguousarray(band[:, 1]),
            members=members[right].astype(np.int16),
            aside=aside[right].astype(np.int16),
            outside=outside[right].astype(np.int16),
            whole=np.where(held, np.cumsum(held) - 1, -1).astype(np.int64),
            of_cluster=of_cluster,
            right=right,
            positive=positive[right],
            share=share[right],
            length=length[right],
        )


def _figures(rows: _Rows, hits: npt.NDArray[np.int64], found: npt.NDArray[np.int64], squares: Floats) -> Rows:
    total = np.maximum(found + rows.positive, 1)
    f1 = np.minimum(2 * hits / total, 1.0)
    both = squares[:, 2] + np.einsum("tg,tg->t", rows.of_cluster, rows.of_cluster, dtype=np.float64)[rows.right]
    n_clusters = max(rows.of_cluster.shape[1], 2)
    spread = 4 * squares[:, 0] - 4 * f1 * squares[:, 1] + f1**2 * both
    variance = n_clusters / (n_clusters - 1) * np.maximum(spread, 0) / total**2
    low, high = f1_interval(f1, variance, (rows.of_cluster > 0).sum(axis=1)[rows.right])
    return {
        "f1": f1,
        "f1_low": low,
        "f1_high": high,
        "precision": hits / np.maximum(found, 1),
        "recall": np.minimum(hits / np.maximum(rows.positive, 1), 1.0),
    }


def _add_chance(
    figures: Rows,
    rows: _Rows,
    found: npt.NDArray[np.int64],
    chance: Floats,
    rest: Floats,
    n_moves: npt.NDArray[np.int64],
) -> None:
    """Add `chance` and `p_value` of labels that rotate.

    Rings rotate independently, so the variance of all hits is the sum of those within rings (`chance [t, 3]`: mean,
    variance, sum of squared variances), and has the degrees of freedom of Satterthwaite (1946). The t test is on the
    root of F1, which evens out the long tail of rare classes: its moments are those of the root of a gamma variable.
    Its spread is at least half of what one interval of the class changes (the share of it that is found), as for counts
    of independent events: an empty null proves nothing.
    """
    total = np.maximum(found + rows.positive, 1)
    scale = np.where(rows.aside[:, 0] >= 0, found / np.maximum(rest, 1), 1.0)
    mean, variance = 2 * chance[:, 0] * scale / total, chance[:, 1] * (2 * scale / total) ** 2
    figures["chance"] = np.minimum(mean, 1.0)
    one = np.maximum(rows.length * np.maximum(figures["recall"], MIN_FOUND_SHARE), 1)
    least = np.sqrt(2 * one / total) / 2
    root = _mean_of_root(mean, variance)
    spread = np.sqrt(np.maximum(mean - root**2, 0) * (1 + 1 / n_moves) + least**2)
    dof = (n_moves + 1) * chance[:, 1] ** 2 / np.maximum(chance[:, 2], 1e-30)
    dof = np.clip(dof, n_moves - 1, MAX_DOF)
    figures["p_value"] = t_p_value((np.sqrt(figures["f1"]) - root) / spread, dof)


def _mean_of_root(mean: Floats, variance: Floats) -> Floats:
    """Mean of the root of gamma variables."""
    shape = np.where(variance > 0, mean**2 / np.maximum(variance, 1e-30), MAX_SHAPE)
    few = np.flatnonzero(shape < MAX_SHAPE)
    factor = np.ones(len(mean))
    k = shape[few]
    factor[few] = [math.exp(math.lgamma(each + 0.5) - math.lgamma(each)) if each > 0 else 0.0 for each in k.tolist()]
    factor[few] /= np.sqrt(np.maximum(k, 1e-30))
    many = np.flatnonzero(shape >= MAX_SHAPE)
    factor[many] = np.where(variance[many] > 0, 1 - 1 / (8 * shape[many]), 1.0)
    return np.asarray(np.sqrt(mean) * factor)


def _add_chance_of_deals(
    figures: Rows,
    labelling: Labelling,
    rows: _Rows,
    found: npt.NDArray[np.int64],
    hits: npt.NDArray[np.int32],
    rest: npt.NDArray[np.int32],
    hit_clips: npt.NDArray[np.int64],
) -> None:
    """Put in `chance` and `p_value` of labels that are dealt to whole clips or speakers.

    With few clips F1 takes few values and only counting tells: p is (1 + deals as good) / (1 + deals). Where none was,
    it is that of the t test, but never less than how likely a deal gives the class to all clips that it was found in.
    """
    for k, own in _dealt_together(rows):
        n_deals = labelling.dealt[1][k].shape[1]
        speech = _speech(labelling.kinds[k].classes)
        positive, units = np.zeros((len(own), n_deals)), np.zeros(len(own))
        for j in range(MAX_MEMBERS):
            classes = rows.members[own, j]
            known = np.flatnonzero(classes >= 0)
            for which in (0, 1):
                mine = known[(classes[known] == speech) == (which == 0)]
                if len(mine) == 0:
                    continue
                positive[mine] += labelling.dealt_positive[which][k][classes[mine]]
            units[known] += labelling.unit_counts[k][classes[known]]
        n_found, dealt = found[own, None], hits[rows.whole[own], :n_deals]
        left = rest[rows.whole[own], :n_deals]
        scale = np.where(rows.aside[own, :1] >= 0, n_found / np.maximum(left, 1), 1.0)
        null = np.minimum(2 * dealt * scale / np.maximum(n_found + positive * rows.share[own, None], 1), 1.0)
        as_good = (null >= figures["f1"][own, None] - 1e-9).sum(axis=1)
        counted = (1 + as_good) / (1 + n_deals)
        tested = shift_p_value(figures["f1"][own], null.T, 2 / np.maximum(n_found[:, 0] + rows.positive[own], 1))
        all_units = labelling.unit_counts[k]
        kept = int(all_units[speech]) if speech >= 0 else 0
        among = np.where(rows.members[own, 0] == speech, all_units.sum(), all_units.sum() - kept)
        least = _lucky(units, hit_clips[own], among)
        by_speaker = labelling.kinds[k].holds_for == "speakers"
        beyond = counted if by_speaker else np.minimum(counted, np.maximum(tested, least))
        figures["chance"][own] = null.mean(axis=1)
        figures["p_value"][own] = np.where(as_good > 0, counted, beyond)


def _dealt_together(rows: _Rows) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield kinds that are dealt, and their rows, a few at a time: each row takes a number for every deal."""
    for k in np.unique(rows.kind[rows.whole >= 0]).tolist():
        own = np.flatnonzero(rows.kind == k)
        for start in range(0, len(own), DEALT_TOGETHER):
            yield k, own[start : start + DEALT_TOGETHER]


def _lucky(units: Floats, hit: npt.NDArray[np.int64], n: npt.NDArray[np.int64]) -> Floats:
    """How likely it is that `hit` given clips are all dealt a class of `units` clips among `n`; all `[t]`."""
    chance = np.ones(len(units))
    for j in range(int(min(hit.max(initial=0), 20))):
        more = hit > j
        chance[more] *= np.clip((units[more] - j) / np.maximum(n[more] - j, 1), 0, 1)
    return chance


def shift_p_value(observed: Floats, null: Floats, floor: Floats) -> Floats:
    """One-sided p-values of `observed [c]` under a null sampled by `null [s, c]`, from a t distribution.

    A few dozen shifts cannot show a p of 10⁻⁴ by counting; their mean and spread can. The spread is never taken to
    be under `floor [c]`, what one frame changes, so a rare label with an empty null proves nothing by itself.
    """
    n = len(null)
    spread = np.sqrt(null.var(axis=0, ddof=1) + floor**2) * math.sqrt(1 + 1 / n)
    return t_p_value((observed - null.mean(axis=0)) / spread, np.full(len(observed), n - 1.0))


def t_p_value(t: Floats, dof: Floats) -> Floats:
    """Upper tails of Student's t, by Wallace (1959): as a normal deviate, good to 0.2 %."""
    z = np.sign(t) * (8 * dof + 1) / (8 * dof + 3) * np.sqrt(dof * np.log1p(t * t / dof))
    return np.array([0.5 * math.erfc(each) for each in (z / math.sqrt(2)).tolist()])


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
