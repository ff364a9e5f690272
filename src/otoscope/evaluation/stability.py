"""Stability: how many features of a dictionary come again when it is trained from another seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from otoscope.dictionaries import Dictionary, RandomBasis
from otoscope.errors import InputError
from otoscope.evaluation.frames import Bools, Floats, Ints, LabelledFrames
from otoscope.evaluation.measure import Measure
from otoscope.evaluation.reconstruction import rebuilt_sites

MIN_COSINE = 0.7
MIN_IOU = 0.5
"""A feature is found again where its partner's decoder row has a larger cosine, and the frames in which the two are
active overlap (intersection over union) by more."""
MAX_HUNGARIAN = 4096
"""Beyond this many features, partners are those that are each other's nearest instead of the best assignment."""
_ROWS = 1024


@dataclass(frozen=True)
class Match:
    """Features of two dictionaries, one to one; only features that are active in some frame take part.

    Attributes:
        feature, partner: `[m]` indices in the first and the second dictionary.
        cosine: `[m]` of their decoder rows.
        iou: `[m]` frames in which both are active over frames in which either is.
        n_alive: the larger number of active features of the two; those left over have no partner.
    """

    feature: Ints
    partner: Ints
    cosine: Floats
    iou: Floats
    n_alive: int

    @property
    def stable(self) -> Bools:
        """`[m]` which features are found again."""
        return np.asarray((self.cosine > MIN_COSINE) & (self.iou > MIN_IOU))


def match_features(first: Dictionary, second: Dictionary, frames: LabelledFrames) -> Match:
    """Pair the features of two dictionaries so that the cosines of their decoder rows are largest in sum.

    By the Hungarian method (Kuhn 1955); above `MAX_HUNGARIAN` features, by mutual nearest neighbours.

    Raises:
        InputError: the dictionaries rebuild different sites.
    """
    if rebuilt_sites(first) != rebuilt_sites(second) or first.d_out != second.d_out:
        raise InputError(
            f"{first.name!r} rebuilds {', '.join(rebuilt_sites(first))} and {second.name!r} "
            f"{', '.join(rebuilt_sites(second))}; only dictionaries of one site can be matched."
        )
    alive = [np.flatnonzero(_times_active(each, frames)) for each in (first, second)]
    rows = [_unit_rows(each, own) for each, own in zip((first, second), alive, strict=True)]
    a, b = _assigned(*rows) if max(map(len, rows)) <= MAX_HUNGARIAN else _mutual(*rows)
    cosine = np.einsum("md,md->m", rows[0][a], rows[1][b])
    feature, partner = alive[0][a], alive[1][b]
    return Match(
        feature=feature,
        partner=partner,
        cosine=np.asarray(cosine, dtype=np.float64),
        iou=_overlap(first, feature, second, partner, frames),
        n_alive=max(map(len, alive)),
    )


def stability(dictionaries: Sequence[Dictionary], frames: LabelledFrames, *, seed: int = 0) -> list[Measure]:
    """Match every pair of dictionaries that differ in their seed alone; three or more are advisable.

    For each pair (`of` names it) and as means over pairs: `stability.share`, features found again (`MIN_COSINE`,
    `MIN_IOU`) of all that are active; `stability.cosine` and `stability.iou`, means over matched features. And
    `stability.share.chance` and `.cosine.chance`: the same against random directions of equal number and L0. There
    is no interval: pairs of a few seeds are not independent, so the pairs themselves show the spread.

    Raises:
        InputError: fewer than two dictionaries, or they rebuild different sites.
    """
    if len(dictionaries) < 2:
        raise InputError(f"Stability compares two dictionaries at least, got {len(dictionaries)}.")
    measures, rows = [], []
    for i, j in itertools.combinations(range(len(dictionaries)), 2):
        first, second = dictionaries[i], dictionaries[j]
        rows.append(_summary(match_features(first, second, frames)))
        of = {"pair": f"{first.name} – {second.name}" if first.name != second.name else f"{i + 1} – {j + 1}"}
        measures += [
            Measure(f"stability.{name}", value, of=of, n=int(rows[-1][3]), n_unit="features")
            for name, value in zip(("share", "cosine", "iou"), rows[-1][:3], strict=True)
        ]
    chance = [
        _summary(match_features(each, _random(each, frames, seed + number), frames))
        for number, each in enumerate(dictionaries)
    ]
    for name, value in zip(("share", "cosine", "iou"), np.mean(rows, axis=0)[:3], strict=True):
        measures.append(Measure(f"stability.{name}", float(value), n=len(rows), n_unit="pairs"))
    for name, value in zip(("share", "cosine"), np.mean(chance, axis=0)[:2], strict=True):
        measures.append(Measure(f"stability.{name}.chance", float(value), n=len(chance), n_unit="pairs"))
    return measures


def _summary(match: Match) -> tuple[float, float, float, int]:
    if match.n_alive == 0:
        return float("nan"), float("nan"), float("nan"), 0
    cosine, iou = (float(np.mean(each)) if len(each) else float("nan") for each in (match.cosine, match.iou))
    return float(match.stable.sum()) / match.n_alive, cosine, iou, match.n_alive


def _random(dictionary: Dictionary, frames: LabelledFrames, seed: int) -> RandomBasis:
    """Random directions for what `dictionary` rebuilds, as many and as many of them active."""
    sites = rebuilt_sites(dictionary)
    l0 = frames.code(dictionary).nnz / len(frames)
    mean = np.concatenate([frames.store.mean(site) for site in sites])
    k = min(max(1, round(l0)), dictionary.n_features)
    basis = RandomBasis(
        sites[0], dictionary.d_out, dictionary.n_features, seed=seed, k=k, mean=torch.from_numpy(mean), name="random"
    )
    basis.sites = sites
    return basis


def _times_active(dictionary: Dictionary, frames: LabelledFrames) -> Ints:
    return np.bincount(frames.code(dictionary).indices, minlength=dictionary.n_features)


def _unit_rows(dictionary: Dictionary, features: Ints) -> Floats:
    rows = dictionary.directions(features.tolist()).detach().cpu().double()
    return np.asarray(torch.nn.functional.normalize(rows, dim=1).numpy(), dtype=np.float64)


def _assigned(a: Floats, b: Floats) -> tuple[Ints, Ints]:
    from scipy.optimize import linear_sum_assignment

    first, second = linear_sum_assignment(a @ b.T, maximize=True)
    return first.astype(np.int64), second.astype(np.int64)


def _mutual(a: Floats, b: Floats) -> tuple[Ints, Ints]:
    """Rows that are each other's nearest, a block of rows at a time."""
    nearest = np.empty(len(a), dtype=np.int64)
    best, back = np.full(len(b), -np.inf), np.zeros(len(b), dtype=np.int64)
    for start in range(0, len(a), _ROWS):
        cosine = a[start : start + _ROWS] @ b.T
        nearest[start : start + _ROWS] = cosine.argmax(axis=1)
        top = cosine.max(axis=0)
        better = top > best
        best[better], back[better] = top[better], start + cosine.argmax(axis=0)[better]
    kept = np.flatnonzero(back[nearest] == np.arange(len(a)))
    return kept, nearest[kept]


def _overlap(first: Dictionary, feature: Ints, second: Dictionary, partner: Ints, frames: LabelledFrames) -> Floats:
    """Intersection over union of the frames in which the features of each pair are active."""
    a, b = ((frames.code(each) != 0).tocsc()[:, own] for each, own in ((first, feature), (second, partner)))
    both = np.asarray(a.multiply(b).sum(axis=0), dtype=np.float64).ravel()
    either = np.diff(a.indptr) + np.diff(b.indptr) - both
    return np.asarray(both / np.maximum(either, 1), dtype=np.float64)
