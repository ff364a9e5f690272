"""Coverage: in how many frames some active feature is named after what is being said, and how often by chance.

A feature is named, on the first half of the voices, after the class that it detects with the best F1, if above that
threshold it is right at least half-way from the share of the class to always: more often than not, and more than a
frequent class is right by itself. Coverage is then measured on the second half. A dictionary with many
active features matches often by chance, so every figure stands beside the same one with shifted labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from otoscope.dictionaries import Dictionary
from otoscope.evaluation.frames import FIT, TEST, Bools, Floats, Ints, LabelledFrames, clustered_measure, ratio
from otoscope.evaluation.measure import Measure
from otoscope.evaluation.naming.label_sets import LabelSet
from otoscope.evaluation.naming.labeller import N_SHIFTS, Labeller, always_on_f1
from otoscope.evaluation.selectivity import benjamini_hochberg

MIN_FOUND = 10
"""Frames above its threshold, of the first half, without which a feature has no name."""
MAX_Q = 0.05
"""False-discovery rate among the names that are confirmed (Benjamini and Hochberg 1995)."""
N_SHIFTED = 10
"""Times the labels are shifted for the chance of coverage."""


@dataclass(frozen=True)
class Naming:
    """What the features of a dictionary are named after.

    Attributes:
        kind, classes: of the labels.
        name: `[n]` class, or −1.
        threshold: `[n]` the feature says its name in frames where its value is larger.
        scale: `[n]` mean value above the threshold on the first half, by which values of different features compare.
        precision: `[n]` on the second half; NaN without a name.
        q_value: `[n]` of F1 on the second half against shifted labels, adjusted over all named features.
        confirmed: `[n]` named, with `q_value` under `MAX_Q`, and right as often on the second half too.
    """

    kind: str
    classes: tuple[str, ...]
    name: Ints
    threshold: Floats
    scale: Floats
    precision: Floats
    q_value: Floats
    confirmed: Bools


def name_features(
    dictionary: Dictionary, frames: LabelledFrames, kind: str = "phone", *, seed: int = 0, n_shifts: int = N_SHIFTS
) -> Naming:
    """Name features on the first half of the voices and confirm the names on the second.

    Raises:
        InputError: the frames have no such labels.
    """
    return _named(dictionary, frames, frames.label_set(kind), seed, n_shifts)


def _named(dictionary: Dictionary, frames: LabelledFrames, labels: LabelSet, seed: int, n_shifts: int) -> Naming:
    labeller = Labeller.of([labels], frames.clip_of_frame, frames.half, seed=seed, n_shifts=n_shifts)
    block = frames.by_feature(dictionary)
    n = dictionary.n_features
    skill, thresholds = labeller.chosen(block)
    positive = labeller.n_positive[0][FIT]
    always = always_on_f1(positive)[: len(labels.classes)]
    best = (skill * (1 - always) + always).argmax(axis=1)
    threshold = thresholds[np.arange(n), best]
    feature = np.repeat(np.arange(n), np.diff(block.indptr))
    above = block.values > threshold[feature]
    own = above & (labels.frame_class[block.frames] >= 0) & (frames.half_of_frame[block.frames] == FIT)
    found = np.bincount(feature[own], minlength=n)
    right = np.bincount(feature[own], labels.frame_class[block.frames[own]] == best[feature[own]], minlength=n)
    enough = _enough(positive / max(positive.sum(), 1))[best]
    named = (found >= MIN_FOUND) & (right >= enough * found)
    total = np.bincount(feature[own], block.values[own], minlength=n)
    keep = np.zeros_like(skill, dtype=bool)
    keep[named, best[named]] = True
    rows = labeller.scored(block, keep, skill, thresholds)
    precision, p_value = np.full(n, np.nan), np.full(n, np.nan)
    precision[rows["feature"]], p_value[rows["feature"]] = rows["precision"], rows["p_value"]
    q_value = np.asarray(benjamini_hochberg(p_value), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        confirmed = named & (q_value < MAX_Q) & (precision >= enough)
    return Naming(
        kind=labels.kind,
        classes=labels.classes,
        name=np.where(named, best, -1).astype(np.int64),
        threshold=threshold,
        scale=np.asarray(total / np.maximum(found, 1), dtype=np.float64),
        precision=precision,
        q_value=q_value,
        confirmed=np.asarray(confirmed),
    )


def _enough(share: Floats) -> Floats:
    """How often a name must be right: half-way from the share of its class among labelled frames to always."""
    return np.asarray((1 + share) / 2, dtype=np.float64)


def coverage(
    dictionary: Dictionary, frames: LabelledFrames, kind: str = "phone", *, seed: int = 0, n_shifts: int = N_SHIFTS
) -> list[Measure]:
    """Measure how much of the labelled frames the named features explain, on the second half of the voices.

    Over frames of a named class: `coverage.any`, the share in which some feature says the right name;
    `coverage.strongest`, the share in which the strongest feature that says any does (strength relative to the
    feature's own mean); each with `.chance` (the same names, but labels as `LabelledFrames.moved` has them) and
    `.above_chance` (their paired difference). And `coverage.named_features`, those confirmed, with `.chance` (labels
    moved before features are named), `coverage.named_share` of all features, and `coverage.named_classes`, the share
    of classes that some confirmed feature is named after.

    Raises:
        InputError: the frames have no such labels.
    """
    labels = frames.label_set(kind)
    naming = _named(dictionary, frames, labels, seed, n_shifts)
    at, classes = frames.named(kind, TEST)
    said = _Said.of(dictionary, frames, naming, at)
    true = said.matches(classes)
    shifted = [said.matches(frames.moved(labels, seed + number)[at]) for number in range(N_SHIFTED)]
    chance = np.mean(shifted, axis=0)
    of = {"kind": kind}
    measures = []
    one = np.ones(len(at))
    for column, name in enumerate(("coverage.any", "coverage.strongest")):
        for suffix, hits in (
            ("", true[:, column]),
            (".chance", chance[:, column]),
            (".above_chance", true[:, column] - chance[:, column]),
        ):
            sums = frames.per_cluster(np.stack([hits, one], axis=1), at)
            measures.append(clustered_measure(name + suffix, sums, ratio, of=of, n=len(at)))
    moved = replace(labels, frame_class=frames.moved(labels, seed))
    by_chance = _named(dictionary, frames, moved, seed, n_shifts)
    n, n_classes = dictionary.n_features, len(labels.classes)
    n_confirmed, n_chance = int(naming.confirmed.sum()), int(by_chance.confirmed.sum())
    met = len(np.unique(naming.name[naming.confirmed]))
    return [
        *measures,
        Measure("coverage.named_features", float(n_confirmed), of=of, n=n, n_unit="features"),
        Measure("coverage.named_features.chance", float(n_chance), of=of, n=n, n_unit="features"),
        Measure("coverage.named_share", n_confirmed / n, of=of, n=n, n_unit="features"),
        Measure("coverage.named_classes", met / n_classes, of=of, n=n_classes, n_unit="classes"),
    ]


@dataclass(frozen=True)
class _Said:
    """Every time a feature says its name: in which of the frames, which name, how strongly for its means."""

    n_frames: int
    frame: Ints
    name: Ints
    strongest: npt.NDArray[np.intp]

    @classmethod
    def of(cls, dictionary: Dictionary, frames: LabelledFrames, naming: Naming, at: Ints) -> _Said:
        code = frames.code(dictionary)[at].tocoo()
        spoken = (naming.name[code.col] >= 0) & (code.data > naming.threshold[code.col])
        frame, feature = code.row[spoken].astype(np.int64), code.col[spoken]
        strength = code.data[spoken] / naming.scale[feature]
        order = np.lexsort((strength, frame))
        last = np.flatnonzero(np.diff(frame[order], append=-1)) if len(frame) else np.zeros(0, dtype=np.int64)
        return cls(len(at), frame, naming.name[feature], order[last])

    def matches(self, classes: npt.NDArray[np.integer]) -> Floats:
        """Return `[t, 2]`: whether some name, and the strongest one, is the class of the frame."""
        result = np.zeros((self.n_frames, 2))
        right = self.name == classes[self.frame]
        result[self.frame[right], 0] = 1
        strongest = self.strongest[right[self.strongest]]
        result[self.frame[strongest], 1] = 1
        return result
