"""How much the strongest feature of a frame says about its phone: phone-normalised mutual information (HuBERT)."""

from __future__ import annotations

import numpy as np

from otoscope.dictionaries import Dictionary
from otoscope.evaluation.frames import FIT, TEST, Floats, Ints, LabelledFrames
from otoscope.evaluation.measure import Measure

N_SHIFTED = 10
MAX_GROUPS = 100
"""Clusters are left out in at most this many groups for the intervals."""


def pnmi(dictionary: Dictionary, frames: LabelledFrames, kind: str = "phone", *, seed: int = 0) -> list[Measure]:
    """Treat the strongest feature of every frame as a cluster and compare clusters with classes.

    After Hsu et al. (2021, HuBERT, section on unit quality), over the labelled frames of the second half of the voices:
    `clustering.pnmi` `= I(y; z) / H(y)`, `clustering.phone_purity` `= Σ_z p(z) max_y p(y | z)` and
    `clustering.cluster_purity` `= Σ_y p(y) max_z p(z | y)`, each with `.chance`: the same with labels shifted within
    clips. All grow with the number of clusters, which is `clustering.used_features`. Frames without an active
    feature form one cluster. `of` says how the strongest is found: by `raw` values, where a few dense features often
    win, or `relative` to each feature's root mean square on the first half. Intervals are from a delete-a-group
    jackknife over clusters of clips.

    Raises:
        InputError: the frames have no such labels.
    """
    at, classes = frames.named(kind, TEST)
    labels = frames.label_set(kind)
    shifted = [frames.moved(labels, seed + number)[at].astype(np.int64) for number in range(N_SHIFTED)]
    _, group = np.unique(frames.clusters[frames.clip_of_frame[at]], return_inverse=True)
    measures = []
    for strength in ("relative", "raw"):
        strongest = _strongest(dictionary, frames, at, relative=strength == "relative")
        value, low, high = _with_jackknife(strongest, classes, group % MAX_GROUPS)
        chance = np.mean([_agreement(strongest, each) for each in shifted], axis=0)
        of = {"kind": kind, "strength": strength}
        for number, name in enumerate(("pnmi", "phone_purity", "cluster_purity")):
            measures += [
                Measure(
                    f"clustering.{name}", float(value[number]), float(low[number]), float(high[number]), of, len(at)
                ),
                Measure(f"clustering.{name}.chance", float(chance[number]), of=of, n=len(at)),
            ]
        used = float(len(np.unique(strongest)))
        n = dictionary.n_features
        measures.append(Measure("clustering.used_features", used, of=of, n=n, n_unit="features"))
    return measures


def _strongest(dictionary: Dictionary, frames: LabelledFrames, at: Ints, *, relative: bool) -> Ints:
    """The strongest feature of each frame; `n_features` where none is active."""
    code = frames.code(dictionary)
    entries = code[at].tocoo()
    strength = entries.data.astype(np.float64)
    if relative:
        fit = code[frames.half_of_frame == FIT]
        power = np.bincount(fit.indices, np.square(fit.data.astype(np.float64)), minlength=dictionary.n_features)
        power = np.where(power > 0, power, np.inf)  # what never was active before cannot be called strong
        strength = strength / np.sqrt(power[entries.col])
    order = np.lexsort((strength, entries.row))
    rows = entries.row[order]
    last = np.flatnonzero(np.diff(rows, append=-1)) if len(rows) else np.zeros(0, dtype=np.int64)
    strongest = np.full(len(at), dictionary.n_features, dtype=np.int64)
    strongest[rows[last]] = entries.col[order[last]]
    return strongest


def _with_jackknife(z: Ints, y: Ints, group: Ints) -> tuple[Floats, Floats, Floats]:
    """The three figures and their 95 % intervals; NaN with fewer than two groups."""
    value = _agreement(z, y)
    groups = np.unique(group)
    g = len(groups)
    if g < 2:
        return value, np.full(3, np.nan), np.full(3, np.nan)
    without = np.stack([_agreement(z[group != each], y[group != each]) for each in groups])
    error = np.sqrt((g - 1) / g * np.square(without - without.mean(axis=0)).sum(axis=0))
    return value, value - 1.96 * error, value + 1.96 * error


def _agreement(z: Ints, y: Ints) -> Floats:
    """PNMI, phone purity and cluster purity of clusters `z [t]` and classes `y [t]`; NaN without frames."""
    if len(z) == 0:
        return np.full(3, np.nan)
    n_classes = int(y.max()) + 1
    pair, counts = np.unique(z * n_classes + y, return_counts=True)
    joint = counts / len(z)
    clusters, cluster = np.unique(pair // n_classes, return_inverse=True)
    label = pair % n_classes
    p_z, p_y = np.bincount(cluster, joint), np.bincount(label, joint, minlength=n_classes)
    information = float((joint * np.log(joint / (p_z[cluster] * p_y[label]))).sum())
    present = p_y[p_y > 0]
    entropy = float(-(present * np.log(present)).sum())
    best_class, best_cluster = np.zeros(len(clusters)), np.zeros(n_classes)
    np.maximum.at(best_class, cluster, joint)
    np.maximum.at(best_cluster, label, joint)
    normalised = information / entropy if entropy > 0 else float("nan")
    return np.array([normalised, best_class.sum(), best_cluster.sum()])
