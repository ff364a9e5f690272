"""Absorption: features that stand for a class but stay silent where a more special feature took over their part.

After SAEBench (Karvonen et al. 2025, from Chanin et al. 2024, arXiv 2409.14507), which asks for the first letter of
words: a feature "starts with s" that does not fire on *snake*, because the feature of *snake* writes that direction
too. Here natural classes of phones take the place of letters, and frames that of words: a feature of nasals that is
silent on /m/. Thresholds are SAEBench's; what had to be adapted is in `docs/measures.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from otoscope.dictionaries import Dictionary, SparseCode
from otoscope.errors import InputError
from otoscope.evaluation.frames import FIT, TEST, Bools, Floats, Ints, LabelledFrames, clustered_measure, ratio
from otoscope.evaluation.measure import Measure
from otoscope.evaluation.probes import regression, strongest_features

KINDS = ("manner", "place", "voicing", "height", "backness", "rounding")
F1_JUMP = 0.03
"""A further feature belongs to the main ones while it raises the probe's F1 by more than this."""
MAX_MAIN = 10
MIN_PROBE_F1 = 0.6
"""Classes that a probe on the activations finds worse than this are left out."""
MIN_SHARE = 0.4
"""Absorbers account for at least this share of the activation's projection on the probe."""
MIN_COSINE_FULL = 0.025
"""Cosine with the probe, from which one feature absorbs a frame in full."""
MIN_COSINE = 0.1
"""Cosine with the probe, from which a feature counts towards the absorbed fraction."""
MAX_ABSORBERS = 3
MAX_DRAWN = 1000
"""Frames of a class, and as many others, that are drawn from either half."""
MIN_DRAWN = 20


@dataclass(frozen=True)
class ClassAbsorption:
    """Absorption of one class.

    Attributes:
        kind, name: of the class.
        probe_f1: of the probe on activations, on the second half.
        main: features that stand for the class, the strongest first; more than one: the class is split.
        at: `[t]` the frames of the class on the second half that the probe finds.
        fraction: `[t]` absorbed fraction of each.
        full: `[t]` whether each is absorbed in full.
        absorber: `[t]` the feature that projects most on the probe; −1 where none is active.
    """

    kind: str
    name: str
    probe_f1: float
    main: tuple[int, ...]
    at: Ints
    fraction: Floats
    full: Bools
    absorber: Ints


def absorption(
    dictionary: Dictionary, frames: LabelledFrames, *, kinds: Iterable[str] = KINDS, seed: int = 0
) -> list[Measure]:
    """Measure absorption of natural classes; see `absorbed_classes`.

    `absorption.fraction` and `absorption.full`: means over the frames of each class that the probe finds (`of` names
    it), and over classes, each class the same weight; `absorption.split_features`, how many features a class is split
    into, on average. No class whose probe is good enough gives an empty list.
    """
    found = absorbed_classes(dictionary, frames, kinds=kinds, seed=seed)
    if not found:
        return []
    measures = []
    for name in ("fraction", "full"):
        columns = np.zeros((len(frames), 2 * len(found)))
        for number, each in enumerate(found):
            own = np.stack([np.asarray(getattr(each, name), dtype=np.float64), np.ones(len(each.at))], axis=1)
            sums = frames.per_cluster(own, each.at)
            of = {"kind": each.kind, "class": each.name}
            measures.append(clustered_measure(f"absorption.{name}", sums, ratio, of=of, n=len(each.at)))
            columns[each.at, 2 * number : 2 * number + 2] = own
        used = np.flatnonzero(columns.any(axis=1))

        def mean(s: Floats) -> Floats:
            return np.asarray(np.nanmean(s[:, ::2] / s[:, 1::2], axis=1))

        per_cluster = frames.per_cluster(columns[used], used)
        measures.append(clustered_measure(f"absorption.{name}", per_cluster, mean, n=len(found), n_unit="classes"))
    split = float(np.mean([len(each.main) for each in found]))
    return [*measures, Measure("absorption.split_features", split, n=len(found), n_unit="classes")]


def absorbed_classes(
    dictionary: Dictionary, frames: LabelledFrames, *, kinds: Iterable[str] = KINDS, seed: int = 0
) -> list[ClassAbsorption]:
    """Find, for each natural class, the features that stand for it and the frames where others took their place.

    A logistic regression on the activations gives the direction of the class. Its main features are those whose means
    differ most, as many as raise the F1 of a probe on them by more than `F1_JUMP` each, on the first half of
    the voices. In a frame of the second half that the regression finds, with `p` the projection of the activation
    (without the decoder's bias) on the direction and `p_i` those of the active features:

    - absorbed in full: no main feature is active, and the feature of the largest `p_i` has a cosine of at least
      `MIN_COSINE_FULL` with the direction and `p_i ≥ MIN_SHARE · p`;
    - absorbed fraction: the share of absorbers in what main features and absorbers project together, where absorbers
      are the `MAX_ABSORBERS` largest `p_i` of other features with a cosine of at least `MIN_COSINE`, counted up to
      what the main features leave of `p`; 0 where they reach less than `MIN_SHARE · p`, or the main ones reach `p`.

    Raises:
        InputError: the dictionary does not rebuild what it reads, so that projections do not compare.
    """
    if dictionary.target_site != dictionary.site or dictionary.d_in != dictionary.d_out:
        raise InputError(
            f"Absorption needs a dictionary that rebuilds what it reads; {dictionary.name!r} reads {dictionary.site} "
            f"and rebuilds {dictionary.target_site}."
        )
    directions = dictionary.directions(range(dictionary.n_features)).detach().cpu().double().numpy()
    offset = _offset(dictionary)
    found = []
    for kind in kinds:
        if kind not in frames.labels:
            continue
        for number, name in enumerate(frames.labels[kind].classes):
            result = _class_absorption(dictionary, frames, kind, number, directions, offset, seed)
            if result is not None:
                found.append(ClassAbsorption(kind, name, *result))
    return found


_Found = tuple[float, tuple[int, ...], Ints, Floats, Bools, Ints]


def _class_absorption(
    dictionary: Dictionary,
    frames: LabelledFrames,
    kind: str,
    number: int,
    directions: Floats,
    offset: Floats,
    seed: int,
) -> _Found | None:
    (fit, fit_of), (test, test_of) = (_drawn(frames, kind, number, half, seed) for half in (FIT, TEST))
    if min(len(fit), len(test)) < 2 * MIN_DRAWN:
        return None
    x = frames.rows(dictionary.sites, fit).astype(np.float64)
    middle, spread = x.mean(axis=0), float(x.std(axis=0).mean()) or 1.0
    y = frames.rows(dictionary.sites, test).astype(np.float64)
    said, probe = regression((x - middle) / spread, fit_of, (y - middle) / spread)
    f1 = _f1(said, test_of)
    direction = probe.coef_[0] / np.linalg.norm(probe.coef_[0])
    kept = said & test_of
    if f1 < MIN_PROBE_F1 or not kept.any():
        return None
    main = _main_features(dictionary, frames, fit, fit_of)
    projected = directions @ direction
    cosine = projected / np.maximum(np.linalg.norm(directions, axis=1), 1e-12)
    of_frame = (y[kept] - offset) @ direction
    parts = _absorbed(dictionary, frames, test[kept], main, projected, cosine, of_frame)
    return (f1, main, test[kept], *parts)


def _absorbed(
    dictionary: Dictionary,
    frames: LabelledFrames,
    at: Ints,
    main: tuple[int, ...],
    projected: Floats,
    cosine: Floats,
    of_frame: Floats,
) -> tuple[Floats, Bools, Ints]:
    """Absorbed fraction, full absorption and the feature of the largest projection, for frames `at`."""
    feature, strength = _padded(frames, dictionary, at)
    active = strength != 0
    part = np.where(active, strength * projected[feature], 0.0)
    is_main = np.isin(feature, main) & active
    by_main = np.where(is_main, part, 0.0).sum(axis=1)
    others = np.where(~is_main & (cosine[feature] >= MIN_COSINE) & (part > 0), part, 0.0)
    by_others = -np.sort(-others, axis=1)[:, :MAX_ABSORBERS].sum(axis=1)
    left = np.minimum(by_others, of_frame - by_main)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip(left / (left + by_main), 0.0, 1.0)
    fraction = np.where(by_main <= 0, 1.0, share)
    fraction[(by_main >= of_frame) | (by_others < MIN_SHARE * of_frame)] = 0.0
    top = np.argmax(np.where(active, part, -np.inf), axis=1)
    rows = np.arange(len(at))
    full = (
        ~is_main.any(axis=1)
        & active.any(axis=1)
        & (of_frame > 0)
        & (cosine[feature[rows, top]] >= MIN_COSINE_FULL)
        & (part[rows, top] >= MIN_SHARE * of_frame)
    )
    return fraction, full, np.where(active.any(axis=1), feature[rows, top], -1)


def _padded(frames: LabelledFrames, dictionary: Dictionary, at: Ints) -> tuple[Ints, Floats]:
    """Active features and strengths of some frames, `[t, k]`, padded with strengths of 0."""
    code = frames.code(dictionary)[at]
    lengths = np.diff(code.indptr)
    place = np.arange(code.nnz) - np.repeat(code.indptr[:-1], lengths)
    rows = np.repeat(np.arange(len(at)), lengths)
    shape = (len(at), max(1, int(lengths.max(initial=0))))
    feature, strength = np.zeros(shape, dtype=np.int64), np.zeros(shape)
    feature[rows, place], strength[rows, place] = code.indices, code.data
    return feature, strength


def _main_features(
    dictionary: Dictionary, frames: LabelledFrames, fit: Ints, positive: npt.NDArray[np.bool_]
) -> tuple[int, ...]:
    """Features of the class: further ones as long as each raises the F1 of the probe on them by `F1_JUMP`."""
    code = frames.code(dictionary)[fit]
    order = strongest_features(code, positive, MAX_MAIN, rising=True)
    columns = code[:, order].toarray()
    columns = columns / np.maximum(np.sqrt(np.square(columns).mean(axis=0)), 1e-12)
    best, size = -np.inf, 0
    for k in range(1, len(order) + 1):
        f1 = _f1(regression(columns[:, :k], positive, columns[:, :k])[0], positive)
        if k > 1 and f1 <= best + F1_JUMP:
            break
        best, size = f1, k
    return tuple(int(index) for index in order[:size])


def _drawn(frames: LabelledFrames, kind: str, number: int, half: int, seed: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Frames of a class and as many of the other classes of its kind, and which are of the class."""
    at, classes = frames.named(kind, half)
    rng = np.random.default_rng([seed, number, half])
    sides = [at[classes == number], at[classes != number]]
    size = min(*map(len, sides), MAX_DRAWN)
    rows = np.concatenate([np.sort(rng.choice(side, size, replace=False)) for side in sides])
    return rows.astype(np.int64), np.arange(2 * size) < size


def _offset(dictionary: Dictionary) -> Floats:
    """What the dictionary rebuilds of nothing, `[d]`: its bias."""
    nothing = SparseCode(torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64), dictionary.n_features)
    return np.asarray(dictionary.decode(nothing)[0].detach().cpu().double().numpy())


def _f1(said: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    return 2 * int((said & truth).sum()) / max(1, int(said.sum() + truth.sum()))
