"""From what was measured to what is said: which labels pass, how many a feature has, and what it is by nature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas.labels.acoustic import Columns
from otoscope.atlas.labels.natures import NATURES
from otoscope.evaluation.naming.discovery import RATE, family_q_values
from otoscope.evaluation.naming.labeller import N_BEST, N_RANKED, Named, always_on_f1
from otoscope.evaluation.naming.labelling import SCORE, Labelling
from otoscope.evaluation.naming.targets import Rows
from otoscope.evaluation.naming.traits import PHONE_KINDS, POSITION_KINDS, SPEAKER_KINDS
from otoscope.evaluation.selectivity import benjamini_hochberg

AS_GOOD = 0.02
"""Of labels that find their class nearly as well (skill), the one of the finest kind is said."""
MIN_LEAD = 0.05
"""A label's F1 lies, with its interval, this far of the way from chance to perfect, in a band or not, and above always
saying so."""
MIN_EXPLAINED = 0.25
"""A feature is acoustic if what is heard explains this share of its variance, and more than its label does."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """The labels of all features.

    Attributes:
        pairs: rows of (feature, class), features in order, `rank` within each, with `q_value` and `class_rank` (at most
            `N_BEST`: beyond it, what was kept depends on the order in which features were labelled).
        bands: rows of bands and unions, features in order, with `q_value` and `passes`.
        label: `[n]` row in `pairs` of the feature's label, −1 for none.
        first: `[n]` row in `pairs` of the feature's first class, −1 for none.
        n_labels: `[n]` labels that pass in bands of their own, at least 1 where there is a label.
        nature: `[n]` number in `NATURES`.
    """

    pairs: Rows
    bands: Rows
    label: Ints
    first: Ints
    n_labels: npt.NDArray[np.uint8]
    nature: npt.NDArray[np.uint8]


def judge(labelling: Labelling, named: Sequence[Named], acoustic: Columns, n_features: int) -> Judged:
    """Decide what may be said about each of `n_features`, from what was found block by block."""
    pairs, bands, lexical = (_joined([getattr(each, name) for each in named]) for name in ("pairs", "bands", "lexical"))
    pairs = _ranked(pairs, _always(labelling))
    bands = _believed(bands)
    first, label = np.full(n_features, -1, dtype=np.int64), np.full(n_features, -1, dtype=np.int64)
    top = np.flatnonzero(pairs["rank"] == 0)
    first[pairs["feature"][top]] = top
    own = top[pairs["passes"][top]]
    label[pairs["feature"][own]] = own
    several = np.bincount(
        bands["feature"][bands["passes"] & (bands["role"] == 0)].astype(np.int64), minlength=n_features
    )
    n_labels = np.where(label >= 0, np.maximum(several, 1), several)
    nature = _natures(labelling, pairs, label, lexical, acoustic)
    del pairs["passes"]
    return Judged(pairs, bands, label, first, n_labels.astype(np.uint8), nature)


def kind_facts(labelling: Labelling) -> list[dict[str, Any]]:
    """What `meta.json` says of each kind of label: the columns of `frames/` in order."""
    return [
        {
            "kind": each.name,
            "n_classes": len(each.classes),
            "n_dropped": int(labelling.n_dropped[k]),
            "whole_clips": bool(labelling.whole[k]),
        }
        for k, each in enumerate(labelling.kinds)
    ]


def _joined(rows: list[Rows]) -> Rows:
    return {name: np.concatenate([each[name] for each in rows]) for name in rows[0]}


def _always(labelling: Labelling) -> npt.NDArray[np.float64]:
    """`[c]` F1 of always saying so, on the scored half, over the classes of all kinds."""
    return np.concatenate([np.zeros(0), *(always_on_f1(counts[SCORE])[:-1] for counts in labelling.n_positive)])


def _ranked(rows: Rows, always: npt.NDArray[np.float64]) -> Rows:
    """Sort pairs by feature and skill, drop those that are neither a feature's nor a class's best, adjust p-values, and
    put the label first where one passes."""
    rank = _places(rows["feature"], rows["skill"], rows["class"])
    class_rank = _places(rows["class"], rows["skill"], rows["feature"])
    kept = np.flatnonzero((rank < N_RANKED) | (class_rank < N_BEST))
    kept = kept[np.lexsort((rank[kept], rows["feature"][kept]))]
    rows = {**{name: values[kept] for name, values in rows.items()}, "class_rank": np.minimum(class_rank[kept], N_BEST)}
    rank = rank[kept]
    rows["q_value"] = family_q_values(rows["p_value"], rows["feature"])
    better = rows["f1_low"] > np.maximum(_lead(rows["chance"]), always[rows["class"]])
    rows["passes"] = (rows["q_value"] <= RATE) & better
    order = _label_first(rows)
    rows = {name: values[order] for name, values in rows.items()}
    feature = rows["feature"]
    start = np.searchsorted(feature, feature, side="left")
    rows["rank"] = (np.arange(len(feature)) - start).astype(np.int32)
    return rows


def _lead(chance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(chance + MIN_LEAD * (1 - chance))


def _label_first(rows: Rows) -> Ints:
    """The order of rows (sorted by feature and skill) that puts each feature's label first."""
    n = len(rows["feature"])
    passing = np.flatnonzero(rows["passes"])
    best = np.full(int(rows["feature"].max(initial=-1)) + 1, -np.inf)
    np.maximum.at(best, rows["feature"][passing], rows["skill"][passing])
    near = passing[rows["skill"][passing] >= best[rows["feature"][passing]] - AS_GOOD]
    near = near[np.lexsort((rows["class"][near], rows["feature"][near]))]
    _, one = np.unique(rows["feature"][near], return_index=True)
    later = np.ones(n, dtype=bool)
    later[near[one]] = False
    return np.lexsort((np.arange(n), later, rows["feature"]))


def _places(group: npt.NDArray[Any], skill: npt.NDArray[np.float64], tie: npt.NDArray[Any]) -> Ints:
    """Place of each row within its group by falling skill, ties by `tie`."""
    order = np.lexsort((tie, -skill, group))
    ranked = group[order]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.searchsorted(ranked, ranked, side="left")
    return place


def _believed(rows: Rows) -> Rows:
    """Sort bands and unions; a band passes if those before it do; first bands, further bands and unions are tested
    apart from each other, each over all features."""
    order = np.argsort(rows["feature"], kind="stable")
    rows = {name: values[order] for name, values in rows.items()}
    group = np.where(rows["role"] == 1, 2, np.minimum(rows["step"], 1))
    q = np.ones(len(group))
    for each in (0, 1, 2):
        own = group == each
        q[own] = benjamini_hochberg(rows["p_value"][own])
    passes = (q <= RATE) & (rows["f1_low"] > _lead(rows["chance"]))
    for i in range(1, len(passes)):
        if rows["role"][i] == 0 and rows["step"][i] > 0:
            passes[i] &= passes[i - 1]
    return {**rows, "q_value": q, "passes": passes}


def _natures(labelling: Labelling, pairs: Rows, label: Ints, lexical: Rows, acoustic: Columns) -> npt.NDArray[np.uint8]:
    of_kind = {**dict.fromkeys(PHONE_KINDS, "phonetic"), **dict.fromkeys(POSITION_KINDS, "positional")}
    of_kind |= {**dict.fromkeys(SPEAKER_KINDS, "speaker"), "word": "lexical", "sound_class": "sound"}
    of_class = np.array(
        [NATURES.index(of_kind[kind.name]) for kind in labelling.kinds for _ in kind.classes], dtype=np.uint8
    )
    nature = np.full(len(label), NATURES.index("unlabelled"), dtype=np.uint8)
    named = np.flatnonzero(label >= 0)
    rows = label[named]
    nature[named] = of_class[pairs["class"][rows]]
    spoken = np.isin(nature, [NATURES.index("phonetic"), NATURES.index("lexical")]) & (lexical["word"] >= 0)
    with np.errstate(invalid="ignore"):
        nature[spoken & (lexical["word_low"] > lexical["phone_high"])] = NATURES.index("lexical")
        nature[spoken & (lexical["phone_low"] > lexical["word_high"])] = NATURES.index("phonetic")
        explained = np.nan_to_num(acoustic["explained"]) >= MIN_EXPLAINED
        by_label = np.zeros(len(label))
        by_label[named] = _explained_by_label(labelling, {name: values[rows] for name, values in pairs.items()})
        nature[explained & (acoustic["explained"] > by_label)] = NATURES.index("acoustic")
    return nature


def _explained_by_label(labelling: Labelling, rows: Rows) -> npt.NDArray[np.float64]:
    """Squared correlation of "the feature is above its threshold" with "the label holds", from precision and recall."""
    counts = [n[SCORE] for n in labelling.n_positive]
    positive = np.concatenate([np.zeros(0), *(each[:-1] for each in counts)])[rows["class"]]
    frames = np.concatenate([np.zeros(0), *(np.full(len(each) - 1, each.sum()) for each in counts)])[rows["class"]]
    hits = rows["recall"] * positive
    found = hits / np.maximum(rows["precision"], 1e-9)
    spread = positive * (frames - positive) * found * (frames - found)
    return np.asarray((hits * frames - found * positive) ** 2 / np.maximum(spread, 1e-9), dtype=np.float64)
