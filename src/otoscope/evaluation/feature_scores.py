"""Every feature against every class: F1, average precision, AUROC, purity and information, with their chance.

Thresholds are fixed on the first half of the voices and everything reported is measured on the second. The arithmetic
is sparse: it goes over active entries only, whatever the number of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError
from otoscope.evaluation.frames import FIT, TEST, Floats, Ints, LabelledFrames, clustered_measure
from otoscope.evaluation.measure import Measure
from otoscope.evaluation.naming.labeller import N_SHIFTS, Labeller

MIN_ACTIVE = 10
"""Features active in fewer labelled frames of a half have no purity."""


@dataclass(frozen=True)
class FeatureScores:
    """What the features of a dictionary say about the classes of one kind.

    Attributes:
        kind, classes: of the labels.
        skill: `[n, c]` best F1 on the first half, as the share of the way from always-on (0) to perfect (1).
        threshold: `[n, c]` where that F1 is reached; the feature detects the class where its value is larger.
        f1, precision, recall: `[n, c]` at that threshold on the second half; `f1_low`, `f1_high` the interval of F1.
        ap, auroc: `[n, c]` on the second half, of the values themselves.
        chance: `[n, c]` mean F1 with the labels shifted within each clip, and `p_value` against those.
        n_active: `[n]` labelled frames of the second half in which the feature is active.
        purity: `[n]` share of the class `purity_class` (−1: none), most frequent among active frames of the first half,
            among those of the second; NaN for features active in fewer than `MIN_ACTIVE` frames of a half.
        effective_classes: `[n]` `exp H(class | active)` on the second half; NaN likewise.
        information: `[n]` bits that activity and class share, with the bias correction of Miller (1955), known as
            Miller–Madow; can be slightly negative.
    """

    kind: str
    classes: tuple[str, ...]
    skill: Floats
    threshold: Floats
    f1: Floats
    f1_low: Floats
    f1_high: Floats
    precision: Floats
    recall: Floats
    ap: Floats
    auroc: Floats
    chance: Floats
    p_value: Floats
    n_active: Ints
    purity: Floats
    purity_class: Ints
    effective_classes: Floats
    information: Floats

    @property
    def best_feature(self) -> Ints:
        """`[c]` the feature of each class that was best on the first half."""
        return np.asarray(self.skill.argmax(axis=0), dtype=np.int64)

    @property
    def best_class(self) -> Ints:
        """`[n]` the class of each feature that was best on the first half; −1 where the feature has no skill."""
        return np.asarray(np.where(self.skill.max(axis=1) > 0, self.skill.argmax(axis=1), -1), dtype=np.int64)


def feature_scores(
    dictionary: Dictionary, frames: LabelledFrames, kind: str = "phone", *, seed: int = 0, n_shifts: int = N_SHIFTS
) -> FeatureScores:
    """Score every feature of `dictionary` for every class of `kind`.

    Raises:
        InputError: the frames have no such labels.
    """
    labels = frames.label_set(kind)
    labeller = Labeller.of([labels], frames.clip_of_frame, frames.half, seed=seed, n_shifts=n_shifts)
    block = frames.by_feature(dictionary)
    skill, threshold = labeller.chosen(block)
    rows = labeller.scored(block, np.ones_like(skill, dtype=bool), skill, threshold)
    pairs = ("f1", "f1_low", "f1_high", "precision", "recall", "ap", "auroc", "chance", "p_value")
    table = {name: rows[name].reshape(skill.shape) for name in pairs}
    fit, test = (active_counts(dictionary, frames, kind, half) for half in (FIT, TEST))
    n_active = test.sum(axis=1)
    enough = (fit.sum(axis=1) >= MIN_ACTIVE) & (n_active >= MIN_ACTIVE)
    chosen = fit.argmax(axis=1)
    share = test / np.maximum(n_active, 1)[:, None]
    n_frames = np.bincount(frames.named(kind, TEST)[1], minlength=len(labels.classes))
    return FeatureScores(
        kind=kind,
        classes=labels.classes,
        skill=skill,
        threshold=threshold,
        **table,
        n_active=n_active,
        purity=np.where(enough, share[np.arange(len(share)), chosen], np.nan),
        purity_class=np.where(enough, chosen, -1).astype(np.int64),
        effective_classes=np.where(enough, np.exp(_entropy(share)), np.nan),
        information=mutual_information(test, n_frames),
    )


def best_pairs(
    dictionary: Dictionary, frames: LabelledFrames, kind: str, features: Sequence[int] | None = None
) -> tuple[Ints, Ints]:
    """Return pairs of feature `[p]` and class `[p]` of a kind, chosen on the first half of the voices by best F1.

    Each class with the feature that finds it best; or each of `features` with the class that it finds best. Classes
    that no feature finds better than by always saying so are left out.

    Raises:
        InputError: the frames have no such labels; or a feature does not exist, or finds no class.
    """
    labels = frames.label_set(kind)
    labeller = Labeller.of([labels], frames.clip_of_frame, frames.half, seed=0, n_shifts=1)
    skill, _ = labeller.chosen(frames.by_feature(dictionary))
    if features is None:
        best = skill.argmax(axis=0)
        classes = np.flatnonzero(skill.max(axis=0) > 0)
        return best[classes].astype(np.int64), classes.astype(np.int64)
    chosen = np.asarray(features, dtype=np.int64)
    for feature in chosen:
        if not 0 <= feature < len(skill):
            raise InputError(f"There is no feature {feature}; give numbers from 0 to {len(skill) - 1}.")
        if skill[feature].max() <= 0:
            raise InputError(
                f"Feature {feature} finds no class of kind {kind!r} better than always saying so; leave it out."
            )
    return chosen, skill[chosen].argmax(axis=1).astype(np.int64)


def active_counts(dictionary: Dictionary, frames: LabelledFrames, kind: str, half: int) -> Ints:
    """Return in how many frames of each class each feature is active (> 0), `[n, c]`, in a half."""
    from scipy.sparse import csr_matrix

    at, classes = frames.named(kind, half)
    code = frames.code(dictionary)[at]
    active = csr_matrix((code.data > 0, code.indices, code.indptr), shape=code.shape).astype(np.int64)
    shape = (len(at), len(frames.label_set(kind).classes))
    hot = csr_matrix((np.ones(len(at), dtype=np.int64), (np.arange(len(at)), classes)), shape=shape)
    return np.asarray((active.T @ hot).toarray(), dtype=np.int64)


def mutual_information(active: Ints, n_frames: Ints) -> Floats:
    """Return the bits that each feature's activity and the class share, `[n]`, Miller–Madow corrected.

    `active [n, c]` counts each feature's active frames of each class, `n_frames [c]` all frames of each class.
    """
    total = int(n_frames.sum())
    if total == 0:
        return np.full(len(active), np.nan)
    joint = np.concatenate([active, n_frames - active], axis=1)
    on = active.sum(axis=1)
    sides = np.stack([on, total - on], axis=1)
    corrected = [
        _entropy(counts / total) + ((counts > 0).sum(axis=1) - 1) / (2 * total)
        for counts in (n_frames[None, :], sides, joint)
    ]
    return np.asarray((corrected[0] + corrected[1] - corrected[2]) / np.log(2), dtype=np.float64)


def score_measures(scores: FeatureScores, dictionary: Dictionary, frames: LabelledFrames) -> list[Measure]:
    """Sum up `scores` of `dictionary` on `frames`.

    `features.best_f1`, `.best_f1.chance`, `.best_ap`, `.best_auroc`: means over classes, of the feature that was best
    on the first half, measured on the second. `features.purity`, `.effective_classes`, `.information`: medians over
    the features active often enough.
    """
    n_classes = len(scores.classes)
    best, every = scores.best_feature, np.arange(n_classes)
    at = np.flatnonzero((frames.label_set(scores.kind).frame_class >= 0) & (frames.half_of_frame == TEST))
    truth = frames.label_set(scores.kind).frame_class[at][:, None] == every
    found = frames.code(dictionary)[at][:, best].toarray() > scores.threshold[best, every]
    sums = frames.per_cluster(np.concatenate([found & truth, found.astype(int) + truth], axis=1).astype(float), at)

    def mean_f1(s: Floats) -> Floats:
        return np.asarray(np.nanmean(2 * s[:, :n_classes] / s[:, n_classes:], axis=1))

    of = {"kind": scores.kind}
    measures = [clustered_measure("features.best_f1", sums, mean_f1, of=of, n=n_classes, n_unit="classes")]
    for name, table in (("best_f1.chance", scores.chance), ("best_ap", scores.ap), ("best_auroc", scores.auroc)):
        value = float(np.nanmean(table[best, every]))
        measures.append(Measure(f"features.{name}", value, of=of, n=n_classes, n_unit="classes"))
    alive = ~np.isnan(scores.purity)
    for name, column in (
        ("purity", scores.purity),
        ("effective_classes", scores.effective_classes),
        ("information", scores.information),
    ):
        value = float(np.median(column[alive])) if alive.any() else float("nan")
        measures.append(Measure(f"features.{name}", value, of=of, n=int(alive.sum()), n_unit="features"))
    return measures


def _entropy(share: Floats) -> Floats:
    """Entropy of each row in nats; zero shares add nothing."""
    return np.asarray(-(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1), dtype=np.float64)
