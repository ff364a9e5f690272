"""Selectivity that is left when what can simply be heard is taken out: loudness, tilt, voicing, pitch and position.

A feature that follows loudness is selective for every loud phone. Its activation is predicted from the acoustics of the
frame and its place in the word, phrase and clip (a regression fitted on the first half of the voices), and only what
that leaves is held against the phone, on the second half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError
from otoscope.evaluation.acoustics import Acoustics
from otoscope.evaluation.feature_scores import best_pairs
from otoscope.evaluation.frames import FIT, TEST, Bools, Floats, Ints, LabelledFrames
from otoscope.evaluation.measure import Measure
from otoscope.evaluation.naming.labeller import shift_p_value
from otoscope.evaluation.selectivity import auroc, average_precision, benjamini_hochberg

N_KNOTS = 8
"""Bends of the curve by which each acoustic quantity may act, at quantiles of the first half."""
TAIL = 0.01
"""Quantities are cut off at this quantile of the first half, and the opposite one: curves are not to be prolonged."""
RIDGE = 1e-3
N_SHIFTED = 20
MIN_SHIFT = 15
"""Labels rotate by at least this many frames (0.3 s): three phones or so."""
N_GROUPS = 20
"""Clusters are left out in this many groups for the intervals."""
MAX_Q = 0.05
"""False-discovery rate under which selectivity is said to be kept."""
PLACES = ("position", "phrase")
Z_95 = 1.96


@dataclass(frozen=True)
class PartialSelectivity:
    """Selectivity of `p` features for one class each on the second half, before and after regressing acoustics out.

    AP is the figure for sparse features: where one that is active in few frames of its class is silent, the regression
    expects something, what it leaves is below zero, and AUROC falls under a half.

    Attributes:
        kind, classes: of the labels; `classes [p]` names the class of each feature.
        features: `[p]`.
        auroc, ap: `[p]` of the activations, against the other labelled frames.
        partial_auroc, partial_ap: `[p]` of what the regression leaves of them; `auroc_low`, `auroc_high` the interval
            of the former (delete-a-group jackknife over clusters).
        auroc_without: `[g, p]` the former without each group of clusters.
        chance_auroc, chance_ap: `[p]` means of the same with labels rotated within each clip, 20 times.
        q_value: `[p]` of `partial_ap` against those, adjusted over pairs (Benjamini and Hochberg 1995).
        explained: `[p]` share of the activation's variance that the regression explains on the second half; negative
            where it is worse than the mean of the first.
    """

    kind: str
    classes: tuple[str, ...]
    features: Ints
    auroc: Floats
    ap: Floats
    partial_auroc: Floats
    auroc_low: Floats
    auroc_high: Floats
    auroc_without: Floats
    partial_ap: Floats
    chance_auroc: Floats
    chance_ap: Floats
    q_value: Floats
    explained: Floats


def partial_selectivity(
    dictionary: Dictionary,
    frames: LabelledFrames,
    heard: Acoustics,
    kind: str = "phone",
    *,
    features: Sequence[int] | None = None,
    seed: int = 0,
) -> PartialSelectivity:
    """Score features for their class by what acoustics and position leave of their activation.

    `heard` are the acoustics of all frames (`frame_acoustics`). `features` None: for each class the feature that finds
    it best on the first half of the voices; else those, each with the class it finds best there. Each quantity may act
    along a bent line of its own, added up. Where a class is the only one of its loudness, say, nothing can tell the two
    apart, and the feature loses.

    Raises:
        InputError: the frames have no such labels; no feature, or not one of `features`, finds a class; or `heard`
            belongs to other frames.
    """
    if len(heard) != len(frames):
        raise InputError(
            f"There are acoustics of {len(heard)} frames for {len(frames)} frames; take `frame_acoustics` of these."
        )
    labels = frames.label_set(kind)
    chosen, classes = best_pairs(dictionary, frames, kind, features)
    if len(chosen) == 0:
        raise InputError(f"No feature finds any class of kind {kind!r} better than always saying so; nothing to score.")
    activations = frames.code(dictionary)[:, chosen].toarray().astype(np.float64)
    known = labels.frame_class >= 0
    fit, test = (known & (frames.half_of_frame == half) for half in (FIT, TEST))
    left = activations - _predicted(_curves(_quantities(frames, heard, kind), fit), activations, fit)
    moved = np.stack([frames.moved(labels, seed + number, min_shift=MIN_SHIFT)[test] for number in range(N_SHIFTED)])
    truth = labels.frame_class[test]
    _, group = np.unique(frames.clusters[frames.clip_of_frame[test]], return_inverse=True)
    rows = [
        _scores(activations[test, number], left[test, number], truth, moved, int(c)) for number, c in enumerate(classes)
    ]
    table = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in _COLUMNS}
    without = _without_groups(left[test], truth[:, None] == classes, group % N_GROUPS)
    margin = Z_95 * _jackknife_error(without)
    own = activations[test]
    spread = np.square(own - activations[fit].mean(axis=0)).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = 1 - np.square(left[test]).sum(axis=0) / spread
    q_value = np.asarray(benjamini_hochberg(table.pop("p_value")), dtype=np.float64)
    names = tuple(labels.classes[c] for c in classes)
    return PartialSelectivity(
        kind=kind,
        classes=names,
        features=chosen,
        auroc_low=np.maximum(table["partial_auroc"] - margin, 0.0),
        auroc_high=np.minimum(table["partial_auroc"] + margin, 1.0),
        auroc_without=without,
        q_value=q_value,
        explained=explained,
        **table,
    )


def partial_measures(found: PartialSelectivity) -> list[Measure]:
    """Sum up `found`: means over its pairs of feature and class.

    `partial.auroc` (with its interval) and `.ap`, each with `.raw` (before the regression) and `.chance`;
    `partial.explained`; `partial.kept`, the share of pairs that still beat shifted labels (`q_value` under 0.05) and
    keep half or more of what their AP has above chance.
    """
    of, n = {"kind": found.kind}, len(found.features)
    kept = (found.q_value < MAX_Q) & (found.partial_ap - found.chance_ap >= (found.ap - found.chance_ap) / 2)
    value = _mean(found.partial_auroc)
    error = float(_jackknife_error(np.array([_mean(row) for row in found.auroc_without])))
    low, high = value - Z_95 * error, value + Z_95 * error
    columns = (
        ("auroc.raw", found.auroc),
        ("auroc.chance", found.chance_auroc),
        ("ap", found.partial_ap),
        ("ap.raw", found.ap),
        ("ap.chance", found.chance_ap),
        ("explained", found.explained),
        ("kept", kept.astype(np.float64)),
    )
    return [
        Measure("partial.auroc", value, low, high, of=of, n=n, n_unit="pairs"),
        *(Measure(f"partial.{name}", _mean(column), of=of, n=n, n_unit="pairs") for name, column in columns),
    ]


_COLUMNS = (
    "auroc", "ap", "partial_auroc", "partial_ap", "chance_auroc", "chance_ap", "p_value",
)  # fmt: skip


def _scores(raw: Floats, left: Floats, truth: Ints, moved: Ints, c: int) -> dict[str, float]:
    """The figures of one feature for class `c`; `moved [s, t]` are shifted labels."""
    own = truth == c
    value = average_precision(left, own)
    null = np.array([[auroc(left, each == c), average_precision(left, each == c)] for each in moved])
    p_value = shift_p_value(np.array([value]), null[:, 1:], 1 / own.sum(keepdims=True))[0] if own.any() else np.nan
    return {
        "auroc": auroc(raw, own),
        "ap": average_precision(raw, own),
        "partial_auroc": auroc(left, own),
        "partial_ap": value,
        "chance_auroc": float(null[:, 0].mean()),
        "chance_ap": float(null[:, 1].mean()),
        "p_value": float(p_value),
    }


def _without_groups(values: Floats, own: Bools, group: Ints) -> Floats:
    """AUROC of every column `[t, p]` without each group `[t]` of clusters, `[g, p]`."""
    return np.array(
        [
            [auroc(column[group != each], mark[group != each]) for column, mark in zip(values.T, own.T, strict=True)]
            for each in np.unique(group)
        ]
    )


def _jackknife_error(without: Floats) -> Floats:
    """Standard error of figures `[g, …]` that were each found without one of g groups; NaN with fewer than two."""
    g = len(without)
    if g < 2:
        return np.full(without.shape[1:], np.nan)
    return np.asarray(np.sqrt((g - 1) / g * np.square(without - without.mean(axis=0)).sum(axis=0)), dtype=np.float64)


def _quantities(frames: LabelledFrames, heard: Acoustics, own_kind: str) -> tuple[Floats, Floats]:
    """What may act along a bent line `[t, q]`, and what is or is not `[t, i]`: voiced, places in word and phrase."""
    voiced = ~np.isnan(heard.f0_hz)
    pitch = np.log2(np.where(voiced, heard.f0_hz, 1.0))
    pitch = np.where(voiced, pitch - (pitch[voiced].mean() if voiced.any() else 0.0), 0.0)
    counts = frames.spans[:, 1]
    starts = np.cumsum(counts) - counts
    place = (np.arange(len(frames)) - np.repeat(starts, counts)) / np.repeat(np.maximum(counts, 1), counts)
    marks = [voiced]
    for kind in PLACES:
        if kind in frames.labels and kind != own_kind:
            labels = frames.labels[kind]
            marks += [labels.frame_class == number for number in range(len(labels.classes))]
    bent = np.stack([heard.energy_db, heard.tilt_db, heard.voicing, pitch, place], axis=1)
    return bent, np.stack(marks, axis=1).astype(np.float64)


def _curves(quantities: tuple[Floats, Floats], fit: Bools) -> Floats:
    """The columns of the regression `[t, m]`: each quantity, its bends at quantiles of the first half, the marks."""
    bent, marks = quantities
    columns = []
    for quantity in bent.T:
        least, *knots, most = np.quantile(quantity[fit], np.linspace(TAIL, 1 - TAIL, N_KNOTS + 2))
        within = np.clip(quantity, least, most)[:, None]
        columns += [within, np.maximum(within - np.unique(knots), 0.0)]
    return np.concatenate([*columns, marks], axis=1)


def _predicted(columns: Floats, activations: Floats, fit: Bools) -> Floats:
    """Ridge regression of every activation on standardised columns, fitted on the first half."""
    mean, spread = columns[fit].mean(axis=0), columns[fit].std(axis=0)
    design = (columns - mean) / np.where(spread > 1e-9, spread, np.inf)
    centre = activations[fit].mean(axis=0)
    normal = design[fit].T @ design[fit] + RIDGE * int(fit.sum()) * np.eye(design.shape[1])
    weights = np.linalg.solve(normal, design[fit].T @ (activations[fit] - centre))
    return np.asarray(centre + design @ weights, dtype=np.float64)


def _mean(column: Floats) -> float:
    known = column[~np.isnan(column)]
    return float(known.mean()) if len(known) else float("nan")
