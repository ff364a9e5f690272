"""k-sparse probes: how much a few features say about a class, beside probes on everything the site holds.

After Gurnee et al. (2023, arXiv 2305.01610) and SAEBench: for each class, the `k` features whose means differ most
between its frames and others are picked on the first half of the voices, a logistic regression on them is fitted
there, and scored on the second half. Frames of the class and others are drawn in equal numbers, so that 0.5 is chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError
from otoscope.evaluation.frames import FIT, TEST, Floats, Ints, LabelledFrames, clustered_measure
from otoscope.evaluation.measure import Measure

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

KS = (1, 2, 5, 20, 100)
KINDS = ("phone", "manner", "place", "voicing", "height", "backness", "rounding")
RAW = "raw"
"""The basis of the dense probe: the site's activations as they are."""
DENSE = "dense"
"""What `k` says where a probe reads all of its basis."""
MAX_DRAWN = 500
"""Frames of a class, and as many others, that a probe sees at most in either half."""
MIN_DRAWN = 20
"""Classes with fewer frames in a half are not probed."""
MAX_FRAMES = 6000
"""Frames that the probe which tells all classes apart is fitted to."""
ITERATIONS = 300

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Task:
    """One class against the others: frames to fit and to score on (positives first), and which of them are of it."""

    kind: str
    name: str
    fit: Ints
    fit_positive: npt.NDArray[np.bool_]
    test: Ints
    test_positive: npt.NDArray[np.bool_]


def probes(
    bases: Mapping[str, Dictionary],
    frames: LabelledFrames,
    *,
    ks: Sequence[int] = KS,
    kinds: Iterable[str] = KINDS,
    raw: bool = True,
    seed: int = 0,
) -> list[Measure]:
    """Probe every basis (a dictionary by name) for every class, and the raw activations with a dense probe.

    Measures, means over the classes of a kind, with `of` naming `basis`, `kind` and `k`: `probe.accuracy` (chance 0.5)
    and `probe.f1`. And `probe.all.accuracy` and `probe.all.macro_f1` of one dense probe that tells all classes of the
    kind apart as they come, with `probe.all.chance`, the share of the commonest class. Every basis is probed on
    the same frames. Intervals are over clusters of test frames; the draw and the fit are taken as given.

    Args:
        bases: the dictionary beside its baselines: `{"sae": …, "neurons": …, "pca": …, "random": …}`.
        frames: labelled frames; all bases must read sites that its store has.
        ks: numbers of features.
        kinds: kinds of labels, left out where the frames lack them.
        raw: whether to add the dense probe on the activations of the first basis's sites.
        seed: decides which frames are drawn.

    Raises:
        InputError: no basis, a `k` below 1, or no class with enough frames in both halves.
    """
    if not bases or min(ks, default=1) < 1:
        raise InputError(f"Probes need at least one basis and k of at least 1, got {list(bases)} and k = {list(ks)}.")
    kinds = [kind for kind in kinds if kind in frames.labels]
    tasks = [task for kind in kinds for task in _tasks(frames, kind, seed)]
    if not tasks:
        raise InputError(f"No class has {MIN_DRAWN} labelled frames in both halves, so nothing can be probed.")
    measures = []
    for name, dictionary in bases.items():
        code = _standardised(frames.code(dictionary), frames)
        said = [_sparse_probes(task, code, ks) for task in tasks]
        for number, k in enumerate(ks):
            measures += _means(tasks, [each[number] for each in said], frames, {"basis": name, "k": str(k)})
        measures += _all_classes(code.__getitem__, kinds, frames, {"basis": name, "k": DENSE}, seed)
    if raw:
        measures += _raw(next(iter(bases.values())).sites, tasks, kinds, frames, seed)
    return measures


def _tasks(frames: LabelledFrames, kind: str, seed: int) -> list[_Task]:
    """The classes of a kind with their frames; others are all frames known not to be of the class."""
    labels = frames.label_set(kind)
    tasks = []
    for number, name in enumerate(labels.classes):
        rng = np.random.default_rng([seed, number, len(labels.classes)])
        drawn = []
        for half in (FIT, TEST):
            known = (labels.frame_class >= 0) & (frames.half_of_frame == half)
            positive = np.flatnonzero(known & (labels.frame_class == number))
            negative = np.flatnonzero(known & (labels.frame_class != number))
            size = min(len(positive), len(negative), MAX_DRAWN)
            rows = [rng.choice(side, size, replace=False) for side in (positive, negative)]
            drawn.append((np.concatenate(rows).astype(np.int64), np.arange(2 * size) < size))
        if min(len(rows) for rows, _ in drawn) >= 2 * MIN_DRAWN:
            tasks.append(_Task(kind, name, *drawn[FIT], *drawn[TEST]))
    return tasks


def _standardised(code: csr_matrix, frames: LabelledFrames) -> csr_matrix:
    """Divide every feature by its root mean square on the first half; zeros stay zeros."""
    from scipy.sparse import diags

    own = code[frames.half_of_frame == FIT]
    power = np.asarray(own.multiply(own).mean(axis=0)).ravel()
    return (code @ diags(1 / np.sqrt(np.where(power > 0, power, 1.0)))).tocsr().astype(np.float32)


def strongest_features(code: csr_matrix, positive: npt.NDArray[np.bool_], k: int, *, rising: bool = False) -> Ints:
    """Return the `k` features with the largest difference of means over standard deviation, in falling order.

    `code [t, n]` holds as many frames of the class (`positive`) as others, so that this is the largest correlation with
    the class, whatever the features' units. `rising`: only features that are stronger in the class.
    """
    code = code.astype(np.float64)
    mean = np.asarray(code.mean(axis=0)).ravel()
    power = np.asarray(code.multiply(code).mean(axis=0)).ravel()
    difference = np.asarray(code[positive].mean(axis=0)).ravel() - mean
    deviation = np.sqrt(np.maximum(power - mean**2, 1e-6 * power))
    score = np.divide(difference, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    order = np.argsort(-score if rising else -np.abs(score), kind="stable")[:k].astype(np.int64)
    return order[score[order] > 1e-9] if rising else order


def _sparse_probes(task: _Task, code: csr_matrix, ks: Sequence[int]) -> list[npt.NDArray[np.bool_]]:
    """What the probe on each number of features says of the test frames."""
    fit, test = code[task.fit], code[task.test]
    features = strongest_features(fit, task.fit_positive, max(ks))
    fit, test = fit[:, features].toarray(), test[:, features].toarray()
    return [_said(fit[:, :k], task.fit_positive, test[:, :k]) for k in ks]


def _said(fit: Rows, positive: npt.NDArray[np.bool_], test: Rows) -> npt.NDArray[np.bool_]:
    return np.asarray(regression(fit, positive, test)[0], dtype=np.bool_)


def regression(fit: Rows | csr_matrix, truth: npt.NDArray[Any], test: Rows | csr_matrix) -> tuple[Any, Any]:
    """Return what a logistic regression fitted to `fit` and `truth` says of `test`, and the regression."""
    from sklearn.linear_model import LogisticRegression

    # Some BLAS raise "invalid value" for lanes beyond the end of a matrix; input that is not finite is refused anyway.
    with np.errstate(invalid="ignore"):
        model = LogisticRegression(max_iter=ITERATIONS, tol=1e-3).fit(fit, truth)
        return model.predict(test), model


def _means(
    tasks: Sequence[_Task], said: Sequence[npt.NDArray[np.bool_]], frames: LabelledFrames, of: dict[str, str]
) -> list[Measure]:
    """Mean accuracy and F1 over the classes of each kind, with intervals over clusters of test frames."""
    measures = []
    for kind in dict.fromkeys(task.kind for task in tasks):
        own = [i for i, task in enumerate(tasks) if task.kind == kind]
        clusters = np.unique(frames.clusters)
        sums = np.zeros((len(clusters), len(own), 4))
        for column, i in enumerate(own):
            truth, found = tasks[i].test_positive, said[i]
            rows = np.stack([found == truth, np.ones_like(truth), found & truth, found.astype(int) + truth], axis=1)
            at = np.searchsorted(clusters, frames.clusters[frames.clip_of_frame[tasks[i].test]])
            np.add.at(sums[:, column], at, rows.astype(np.float64))
        used = sums[sums.any(axis=(1, 2))].reshape(-1, 4 * len(own))
        where = {"basis": of["basis"], "kind": kind, "k": of["k"]}
        for name, top, bottom in (("accuracy", 0, 1), ("f1", 2, 3)):
            factor = 2.0 if name == "f1" else 1.0

            def mean(s: Floats, top: int = top, bottom: int = bottom, factor: float = factor) -> Floats:
                return np.asarray(np.nanmean(factor * s[:, top::4] / s[:, bottom::4], axis=1))

            measures.append(clustered_measure(f"probe.{name}", used, mean, of=where, n=len(own), n_unit="classes"))
    return measures


def _all_classes(
    rows: Callable[[Ints], Rows | csr_matrix],
    kinds: Sequence[str],
    frames: LabelledFrames,
    of: dict[str, str],
    seed: int,
) -> list[Measure]:
    """One multinomial probe per kind on all of a basis, scored on the second half's frames as they come."""
    measures = []
    for kind in kinds:
        rng = np.random.default_rng([seed, len(kinds)])
        (fit, fit_class), (test, test_class) = (_drawn(*frames.named(kind, half), rng) for half in (FIT, TEST))
        if len(np.unique(fit_class)) < 2 or not len(test):
            continue
        said = regression(rows(fit), fit_class, rows(test))[0]
        where = {"basis": of["basis"], "kind": kind, "k": of["k"]}
        n = len(frames.label_set(kind).classes)
        one = np.ones(len(test))
        hot = np.eye(n)
        right = (said == test_class).astype(np.float64)
        common = test_class == np.bincount(fit_class).argmax()
        counted = np.concatenate([right[:, None] * hot[test_class], hot[said] + hot[test_class]], axis=1)

        def macro(s: Floats, n: int = n) -> Floats:
            return np.asarray(np.nanmean(2 * s[:, :n] / s[:, n:], axis=1))

        for name, columns, statistic in (
            ("accuracy", np.stack([right, one], axis=1), lambda s: s[:, 0] / s[:, 1]),
            ("chance", np.stack([common, one], axis=1), lambda s: s[:, 0] / s[:, 1]),
            ("macro_f1", counted, macro),
        ):
            per_cluster = frames.per_cluster(columns, test)
            measures.append(clustered_measure(f"probe.all.{name}", per_cluster, statistic, of=where, n=len(test)))
    return measures


def _drawn(at: Ints, classes: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """At most `MAX_FRAMES` of some frames, and their classes."""
    if len(at) > MAX_FRAMES:
        kept = np.sort(rng.choice(len(at), MAX_FRAMES, replace=False))
        at, classes = at[kept], classes[kept]
    return at, classes


def _raw(
    sites: Sequence[str], tasks: Sequence[_Task], kinds: Sequence[str], frames: LabelledFrames, seed: int
) -> list[Measure]:
    """The dense probes on activations, units centred and divided by their standard deviation on the first half."""
    wanted = [rows for task in tasks for rows in (task.fit, task.test)]
    for kind in kinds:
        rng = np.random.default_rng([seed, len(kinds)])
        wanted += [_drawn(*frames.named(kind, half), rng)[0] for half in (FIT, TEST)]
    at = np.unique(np.concatenate(wanted))
    x = frames.rows(sites, at).astype(np.float32)
    fit = frames.half_of_frame[at] == FIT
    x = (x - x[fit].mean(axis=0)) / np.maximum(x[fit].std(axis=0), 1e-6)
    place = np.zeros(len(frames), dtype=np.int64)
    place[at] = np.arange(len(at))
    said = [_said(x[place[task.fit]], task.fit_positive, x[place[task.test]]) for task in tasks]
    of = {"basis": RAW, "k": DENSE}
    return _means(tasks, said, frames, of) + _all_classes(lambda rows: x[place[rows]], kinds, frames, of, seed)
