"""Onset-aligned profiles: what a feature does in the 200 ms around the beginnings and the ends of its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from otoscope.dictionaries import Dictionary
from otoscope.evaluation.feature_scores import best_pairs
from otoscope.evaluation.frames import TEST, Floats, Ints, LabelledFrames
from otoscope.evaluation.measure import Measure, drawn_sums, percentiles
from otoscope.evaluation.naming.label_sets import LabelSet

REACH = 10
"""Frames before and after an event (20 ms each)."""
N_SHIFTED = 10
MIN_SHIFT = 15
"""Labels rotate by at least this many frames (0.3 s): three phones or so."""
N_LAGS = 2 * REACH + 1
LAGS = np.arange(-REACH, REACH + 1)


@dataclass(frozen=True)
class OnsetProfiles:
    """Mean activation of `p` features around the events of one class each, on the second half of the voices.

    Attributes:
        kind, classes: of the labels; `classes [p]` names the class of each feature.
        features: `[p]`.
        lags_s: `[l]` seconds after the onset (or offset), which is taken to lie half a frame before the first frame
            of (or behind) a stretch of the class: there it is on average.
        onset, offset: `[p, l]` means over events, of the frames inside the clip; `…_low`, `…_high` their intervals.
        n_events: `[p]` onsets.
        contrast: `[p]` `(peak − baseline) / (peak + baseline)` of the onset profile, from 0 to 1; `contrast_chance`:
            mean of the same around onsets of labels rotated within each clip, 10 times. The peak is the largest of 21
            means, so chance is above 0. Where there is no more contrast, latency and duration mean nothing.
        baseline: `[p]` mean over labelled frames of other classes.
        latency_s: `[p]` when the onset profile rises through half-way between baseline and peak; `duration_s`: how
            long it stays above; 0 and the length of the class for a feature that is simply on in it. NaN where that
            happens outside the window, or nothing rises above the baseline. `…_low`, `…_high` their intervals.
    """

    kind: str
    classes: tuple[str, ...]
    features: Ints
    lags_s: Floats
    onset: Floats
    onset_low: Floats
    onset_high: Floats
    offset: Floats
    offset_low: Floats
    offset_high: Floats
    n_events: Ints
    contrast: Floats
    contrast_chance: Floats
    baseline: Floats
    latency_s: Floats
    latency_low: Floats
    latency_high: Floats
    duration_s: Floats
    duration_low: Floats
    duration_high: Floats


def onset_profiles(
    dictionary: Dictionary, frames: LabelledFrames, kind: str = "phone", *, features: Sequence[int] | None = None
) -> OnsetProfiles:
    """Average features around the onsets and offsets of their class.

    `features` None: for each class the feature that finds it best on the first half of the voices; else those, each
    with the class it finds best there. Stretches of one class without a frame between them count as one.

    Raises:
        InputError: the frames have no such labels; or a feature does not exist, or finds no class.
    """
    labels = frames.label_set(kind)
    chosen, classes = best_pairs(dictionary, frames, kind, features)
    sums, n_events = _sums(dictionary, frames, labels, chosen, classes)
    seconds = frames.store.clock.frame_s
    now, drawn = _Figures.of(sums.sum(axis=0)), _Figures.of(_draw(sums))
    onset, offset, latency, duration = (
        percentiles(each) for each in (drawn.onset, drawn.offset, seconds * drawn.rise, seconds * drawn.width)
    )
    return OnsetProfiles(
        kind=kind,
        classes=tuple(labels.classes[c] for c in classes),
        features=chosen,
        lags_s=seconds * (LAGS.astype(np.float64) + 0.5),
        onset=now.onset,
        onset_low=onset[0],
        onset_high=onset[1],
        offset=now.offset,
        offset_low=offset[0],
        offset_high=offset[1],
        n_events=n_events,
        contrast=now.contrast,
        contrast_chance=_chance(dictionary, frames, labels, chosen, classes),
        baseline=now.baseline,
        latency_s=seconds * now.rise,
        latency_low=latency[0],
        latency_high=latency[1],
        duration_s=seconds * now.width,
        duration_low=duration[0],
        duration_high=duration[1],
    )


def onset_measures(dictionary: Dictionary, frames: LabelledFrames, kind: str = "phone") -> list[Measure]:
    """Sum up the profiles of the best feature of each class: medians over classes, with intervals.

    `onset.latency_s`, `onset.duration_s`, `onset.contrast` and `onset.contrast.chance`, as in `OnsetProfiles`.

    Raises:
        InputError: the frames have no such labels.
    """
    labels = frames.label_set(kind)
    chosen, classes = best_pairs(dictionary, frames, kind)
    sums, _ = _sums(dictionary, frames, labels, chosen, classes)
    seconds = frames.store.clock.frame_s
    of, n = {"kind": kind}, len(classes)
    now, drawn = _Figures.of(sums.sum(axis=0)), _Figures.of(_draw(sums))
    measures = []
    for name, value, draws in (
        ("latency_s", seconds * now.rise, seconds * drawn.rise),
        ("duration_s", seconds * now.width, seconds * drawn.width),
        ("contrast", now.contrast, drawn.contrast),
    ):
        low, high = percentiles(_median(draws))
        measures.append(Measure(f"onset.{name}", float(_median(value)), float(low), float(high), of, n, "classes"))
    chance = float(_median(_chance(dictionary, frames, labels, chosen, classes)))
    measures.append(Measure("onset.contrast.chance", chance, of=of, n=n, n_unit="classes"))
    return measures


@dataclass(frozen=True)
class _Figures:
    """What sums make, for `[…, p]` pairs: profiles `[…, p, l]`, their baseline, contrast, rise and width in frames."""

    onset: Floats
    offset: Floats
    baseline: Floats
    contrast: Floats
    rise: Floats
    width: Floats

    @classmethod
    def of(cls, sums: Floats) -> _Figures:
        """Take `[…, p, 2·(2·l) + 2]`: sums and counts around onsets, then around offsets, then elsewhere."""
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [sums[..., number * N_LAGS : (number + 1) * N_LAGS] for number in range(4)]
            onset, offset = parts[0] / parts[1], parts[2] / parts[3]
            baseline = sums[..., -2] / sums[..., -1]
            peak = onset.max(axis=-1)
            contrast = (peak - baseline) / (peak + baseline)
        rise, fall = _half_crossings(onset, (baseline + peak) / 2)
        return cls(onset, offset, baseline, contrast, rise, fall - rise)


def _half_crossings(profile: Floats, level: Floats) -> tuple[Floats, Floats]:
    """Where `profile […, l]` last crosses `level […]` before its peak, and first after it, in frames from the onset."""
    index = np.arange(N_LAGS)
    peak = profile.argmax(axis=-1)[..., None]
    below = profile < level[..., None]
    before, after = below & (index < peak), below & (index > peak)
    last = N_LAGS - 1 - before[..., ::-1].argmax(axis=-1)
    first = after.argmax(axis=-1)
    risen = np.take_along_axis(profile, peak, axis=-1)[..., 0] > level
    rise = np.where(risen & before.any(axis=-1), _crossing(profile, level, np.minimum(last, N_LAGS - 2)), np.nan)
    fall = np.where(risen & after.any(axis=-1), _crossing(profile, level, np.maximum(first - 1, 0)), np.nan)
    return rise - REACH + 0.5, fall - REACH + 0.5


def _crossing(profile: Floats, level: Floats, left: Ints) -> Floats:
    """Where the straight line from point `left` to the next one meets the level."""
    a, b = (np.take_along_axis(profile, (left + step)[..., None], axis=-1)[..., 0] for step in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(left + (level - a) / (b - a), dtype=np.float64)


def _chance(dictionary: Dictionary, frames: LabelledFrames, labels: LabelSet, features: Ints, classes: Ints) -> Floats:
    """Mean contrast of every pair around onsets of moved labels."""
    contrasts = []
    for seed in range(N_SHIFTED):
        moved = replace(labels, frame_class=frames.moved(labels, seed, min_shift=MIN_SHIFT))
        sums, _ = _sums(dictionary, frames, moved, features, classes)
        contrasts.append(_Figures.of(sums.sum(axis=0)).contrast)
    return np.asarray(np.mean(contrasts, axis=0), dtype=np.float64)


def _draw(sums: Floats) -> Floats:
    """Bootstrap sums `[draws, p, m]` over clusters; of NaN with fewer than two clusters."""
    if len(sums) < 2:
        return np.full((1, *sums.shape[1:]), np.nan)
    return drawn_sums(sums.reshape(len(sums), -1)).reshape(-1, *sums.shape[1:])


def _median(figures: Floats) -> Floats:
    """Median over pairs `[…, p]` of the figures that there are; NaN without any."""
    none = np.asarray(np.isnan(figures).all(axis=-1))
    found = np.nanmedian(np.where(none[..., None], 0.0, figures), axis=-1) if figures.shape[-1] else np.nan
    return np.asarray(np.where(none, np.nan, found), dtype=np.float64)


def _sums(
    dictionary: Dictionary, frames: LabelledFrames, labels: LabelSet, features: Ints, classes: Ints
) -> tuple[Floats, Ints]:
    """Sums of every pair over clusters of the second half, `[g, p, m]` as `_Figures.of` takes them; onsets `[p]`."""
    columns = frames.code(dictionary)[:, features].toarray().astype(np.float64)
    clip, test = frames.clip_of_frame, frames.half_of_frame == TEST
    clusters, cluster = np.unique(frames.clusters[clip[test]], return_inverse=True)
    cluster_of_frame = np.full(len(frames), -1)
    cluster_of_frame[test] = cluster
    follows = test[1:] & (clip[1:] == clip[:-1]) & (labels.frame_class[1:] != labels.frame_class[:-1])
    change = 1 + np.flatnonzero(follows)
    sums = np.zeros((len(clusters), len(features), 4 * N_LAGS + 2))
    n_events = np.zeros(len(features), dtype=np.int64)
    for number, c in enumerate(classes):
        column = columns[:, number]
        onsets = change[labels.frame_class[change] == c]
        offsets = change[labels.frame_class[change - 1] == c]
        n_events[number] = len(onsets)
        for which, events in enumerate((onsets, offsets)):
            near = np.clip(events[:, None] + LAGS, 0, len(frames) - 1)
            inside = (clip[near] == clip[events][:, None]) & (near == events[:, None] + LAGS)
            first = 2 * which * N_LAGS
            own = cluster_of_frame[events]
            np.add.at(sums[:, number, first : first + N_LAGS], own, np.where(inside, column[near], 0))
            np.add.at(sums[:, number, first + N_LAGS : first + 2 * N_LAGS], own, inside)
        other = test & (labels.frame_class >= 0) & (labels.frame_class != c)
        where = cluster_of_frame[other]
        sums[:, number, -2] = np.bincount(where, column[other], minlength=len(clusters))
        sums[:, number, -1] = np.bincount(where, minlength=len(clusters))
    return sums, n_events
