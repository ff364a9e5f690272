"""Fitting frame phone models: on phone tiers, on the model's own alignments, or on text and lexicon alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from otoscope.alignment.classifier import FitSettings, Frames, Weights, fit_gaussians, fit_logistic
from otoscope.alignment.inventory import SILENCE, SPOKEN_NOISE, base_intervals, guess_alphabet
from otoscope.alignment.lattice import Lattice
from otoscope.alignment.lexicon import Lexicon
from otoscope.alignment.loudness import loud_frames
from otoscope.alignment.phone_model import PhoneModel, PhoneModelSettings
from otoscope.alignment.phones import lattice_of, pronunciations
from otoscope.audio import Clip, Interval
from otoscope.errors import InputError, OtoscopeError
from otoscope.progress import ProgressReport, track

if TYPE_CHECKING:
    from otoscope.models import SpeechModel

LEAST_SOUND_S = 8.0
"""Seconds of speech from which on adapting helped in `benchmarks/alignment.py`; one second made it worse."""
_NONE = torch.zeros(0)
_NARROW = (-3, 0, 3)
_GAUSSIAN_ROUNDS = 8


def fit_phone_model(
    clips: Sequence[Clip],
    settings: PhoneModelSettings | None = None,
    *,
    model: SpeechModel | None = None,
    alphabet: str | None = None,
    fit: FitSettings | None = None,
    progress: bool | ProgressReport = False,
) -> PhoneModel:
    """Fit a phone model to clips whose phones are known (tier `phones`); what no phone covers counts as a pause.

    `model` is needed when the settings read its sites. `alphabet` is that of the labels: `arpabet`, `ipa`, `sampa`,
    `own` (labels as they are), or None to find out.

    Raises:
        InputError: no clip has phones, or a phone that the alphabet does not have.
    """
    known = [clip for clip in clips if clip.tier("phones")]
    if not known:
        raise InputError("No clip has a phones tier to fit a phone model on; use flat_start with texts and a lexicon.")
    chosen = alphabet or guess_alphabet({each.label for clip in known for each in clip.tier("phones")})
    settings = replace(settings or PhoneModelSettings(), alphabet=chosen)
    tiers = [
        list(clip.tier("phones")) if chosen == "own" else base_intervals(clip.tier("phones"), chosen) for clip in known
    ]
    names = {each.label for tier in tiers for each in tier} - {SILENCE, SPOKEN_NOISE}
    draft = PhoneModel(tuple(sorted(names)), settings, _NONE, _NONE, np.zeros(0), model)
    features = _features(known, draft, progress)
    labels = [frame_labels(tier, len(frames), draft) for tier, frames in zip(tiers, features, strict=True)]
    return _refitted(draft, features, labels, fit)


@dataclass(frozen=True)
class Refit:
    """What adapting a phone model came to, round by round."""

    model: PhoneModel
    scores: tuple[float, ...]
    """Mean score of a frame on the best path of each round's alignment (log-likelihood over prior)."""
    left_out: dict[str, str]
    """Clips that could not be used, and why."""


def adapt(
    phone_model: PhoneModel,
    clips: Sequence[Clip],
    lexicon: Lexicon,
    *,
    rounds: int = 3,
    unknown: str = "any",
    fit: FitSettings | None = None,
    progress: bool | ProgressReport = False,
) -> Refit:
    """Refit a phone model on its own alignments of the clips' texts, `rounds` times (Viterbi training).

    No times are needed: this fits a model to a corpus' voices, rooms and language. Phones that only the lexicon has
    cannot be learned this way; `flat_start` learns all of them. Less than `LEAST_SOUND_S` of speech does harm.

    Raises:
        InputError: no clip can be used.
    """
    known, features, lattices, left_out = _prepared(phone_model, clips, lexicon, unknown, progress)
    scores = []
    for _ in range(rounds):
        labels, score = _own_labels(phone_model, features, lattices, known, left_out)
        scores.append(score)
        phone_model = _refitted(phone_model, features, labels, fit)
    return Refit(phone_model, tuple(scores), left_out)


def flat_start(
    clips: Sequence[Clip],
    lexicon: Lexicon,
    settings: PhoneModelSettings | None = None,
    *,
    model: SpeechModel | None = None,
    rounds: int = 3,
    unknown: str = "any",
    fit: FitSettings | None = None,
    progress: bool | ProgressReport = False,
) -> Refit:
    """Fit a phone model from texts and a lexicon alone.

    Phones are spread evenly over the sound at first; Gaussians of whole phones are then fitted to that and to their
    own alignments, as in the monophone stage of the Montreal aligner; `rounds` of `adapt` follow. Minutes of speech
    are enough for read speech.

    Raises:
        InputError: no clip can be used.
    """
    settings = replace(settings or PhoneModelSettings(), alphabet="own")
    whole = replace(settings, parts=1, offsets=_NARROW)
    draft = PhoneModel(lexicon.phones, whole, _NONE, _NONE, np.zeros(0), model)
    known, features, lattices, left_out = _prepared(draft, clips, lexicon, unknown, progress)
    tiers = [
        spread(clip, [ways[0].phones for ways in pronunciations(clip, lexicon, None, unknown)[1]]) for clip in known
    ]
    labels = [frame_labels(tier, len(frames), draft) for tier, frames in zip(tiers, features, strict=True)]
    scores = []
    with track("flat start", _GAUSSIAN_ROUNDS, progress, unit="rounds") as advance:
        for _ in range(_GAUSSIAN_ROUNDS):
            frames = Frames.of(features, labels)
            draft = _with(draft, fit_gaussians(frames, draft.n_columns, whole.offsets))
            labels, score = _own_labels(draft, features, lattices, known, left_out)
            scores.append(score)
            advance(1)
    finer = replace(draft, settings=settings)
    labels = [_in_parts(each, finer) for each in labels]
    finer = _refitted(finer, features, labels, fit)
    refit = adapt(finer, known, lexicon, rounds=rounds, unknown=unknown, fit=fit, progress=progress)
    return Refit(refit.model, (*scores, *refit.scores), left_out | refit.left_out)


def _in_parts(whole: np.ndarray, model: PhoneModel) -> np.ndarray:
    """Cut runs of one column per phone into the columns of the phone's parts."""
    cuts = np.flatnonzero(np.diff(whole)) + 1
    found = whole.copy()
    for first, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        if whole[first] > 0:
            part = ((np.arange(stop - first) + 0.5) * model.settings.parts / (stop - first)).astype(np.int64)
            found[first:stop] = 1 + (whole[first] - 1) * model.settings.parts + part
    return found


def _refitted(
    model: PhoneModel, features: Sequence[np.ndarray], labels: Sequence[np.ndarray], fit: FitSettings | None
) -> PhoneModel:
    frames = Frames.of(features, labels)
    return _with(model, fit_logistic(frames, model.n_columns, model.settings.offsets, fit or FitSettings()))


def _with(model: PhoneModel, weights: Weights) -> PhoneModel:
    return replace(model, weight=weights[0], bias=weights[1], log_prior=weights[2])


def frame_labels(tier: Sequence[Interval], n_frames: int, model: PhoneModel) -> np.ndarray:
    """Return the column of each frame, `[t]`: the parts of each phone share its frames evenly; −1 in spoken noise."""
    hz, parts = model.settings.features.hz, model.settings.parts
    labels = np.zeros(n_frames, dtype=np.int64)
    for each in tier:
        first, stop = (min(n_frames, max(0, int(np.ceil(s * hz - 1e-6)))) for s in (each.start_s, each.end_s))
        if each.label == SPOKEN_NOISE:
            labels[first:stop] = -1
        elif each.label != SILENCE:
            part = (np.arange(stop - first) + 0.5) * parts / max(1, stop - first)
            labels[first:stop] = np.array(model.columns(each.label))[part.astype(np.int64)]
    return labels


def spread(clip: Clip, words: Sequence[Sequence[str]]) -> list[Interval]:
    """Return the phones of the words spread evenly over the frames of a clip that are not quiet."""
    loud = np.flatnonzero(loud_frames(clip))
    phones = [phone for word in words for phone in word]
    cuts = np.linspace(0, len(loud), len(phones) + 1)
    edges_s = loud[np.minimum(cuts.astype(np.int64), len(loud) - 1)] * 0.01
    edges_s[-1] = min(clip.duration_s, edges_s[-1] + 0.01)
    return [
        Interval(float(a), float(b), phone) for a, b, phone in zip(edges_s, edges_s[1:], phones, strict=False) if b > a
    ]


def _features(clips: Sequence[Clip], model: PhoneModel, progress: bool | ProgressReport) -> list[np.ndarray]:
    found = []
    with track("reading features", len(clips), progress, unit="clips") as advance:
        for clip in clips:
            found.append(model.settings.features.of(clip, model.speech_model))
            advance(1)
    return found


def _prepared(
    model: PhoneModel, clips: Sequence[Clip], lexicon: Lexicon, unknown: str, progress: bool | ProgressReport
) -> tuple[list[Clip], list[np.ndarray], list[Lattice], dict[str, str]]:
    """The clips that can be aligned, their features and lattices, and why the others cannot."""
    known, lattices, left_out = [], [], {}
    for clip in clips:
        try:
            said = pronunciations(clip, lexicon, None, unknown)[1]
            lattices.append(lattice_of(said, model, lenient=unknown == "any"))
            known.append(clip)
        except InputError as error:
            left_out[clip.clip_id] = str(error)
    if not known:
        raise InputError(f"No clip can be aligned; the first one: {next(iter(left_out.values()), 'there are none')}")
    return known, _features(known, model, progress), lattices, left_out


def _own_labels(
    model: PhoneModel,
    features: Sequence[np.ndarray],
    lattices: Sequence[Lattice],
    clips: Sequence[Clip],
    left_out: dict[str, str],
) -> tuple[list[np.ndarray], float]:
    """The columns of each clip's frames on the best path, and the mean score of a frame."""
    labels, total, n_frames = [], 0.0, 0
    for clip, frames, lattice in zip(clips, features, lattices, strict=True):
        posteriors = model.posteriors_of(frames)
        try:
            score, path = lattice.best_path(model.with_any_phone(posteriors))
        except OtoscopeError as error:
            left_out[clip.clip_id] = str(error)
            labels.append(np.full(len(frames), -1))
            continue
        columns = lattice.emits[path]
        labels.append(np.where(columns == model.n_columns, -1, columns))
        total, n_frames = total + score, n_frames + len(frames)
    return labels, total / max(1, n_frames)
