"""Does the transcript need a feature? Switch it off, and compare the words with its sound to all other words."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from otoscope.audio import Clip
from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError
from otoscope.models import Edit, SpeechModel
from otoscope.models.generation import Token, Transcript

N_BOOTSTRAP = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over clips with its 95 % interval (bootstrap over clips)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    @classmethod
    def of(cls, values: NDArray[np.float64], seed: int) -> Estimate:
        """Estimate the mean of one value per clip."""
        drawn = np.random.default_rng(seed).integers(len(values), size=(N_BOOTSTRAP, len(values)))
        low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
        return cls(float(values.mean()), float(low), float(high))


@dataclass(frozen=True)
class Effect:
    """What an edit does to words with a label, minus what it does to the other words of the same clip."""

    log_prob: Estimate
    """Drop of the word's log-probability (natural, teacher-forced): positive means the words need the feature."""
    changed: Estimate
    """Share of words that are written differently."""

    @classmethod
    def of(cls, per_clip: NDArray[np.float64], seed: int) -> Effect:
        """Estimate both from `per_clip [clips, 2]`."""
        return cls(Estimate.of(per_clip[:, 0], seed), Estimate.of(per_clip[:, 1], seed))


@dataclass(frozen=True)
class Necessity:
    """The effect of removing one feature, beside an equally large change along another feature's direction."""

    dictionary: str
    feature: int
    label: str
    n_clips: int
    edit: Effect
    control: Effect
    per_clip: NDArray[np.float64]
    """Per clip the two differences of `edit`, `[clips, 2]`, to be pooled over features."""
    control_per_clip: NDArray[np.float64]
    """The same of each control, `[controls, clips, 2]`."""


def beyond_control(results: Sequence[Necessity], seed: int = 0) -> Estimate:
    """Return the drop of log-probability minus the mean of the controls' in the same clip, pooled over features."""
    paired = [result.per_clip[:, 0] - result.control_per_clip[:, :, 0].mean(axis=0) for result in results]
    return Estimate.of(np.concatenate(paired), seed)


def more_than_control(results: Sequence[Necessity], seed: int = 0) -> Estimate:
    """Return how often words with the label lose more than under one control, over clips and controls.

    Edit and control are compared one to one, ties count half, so a direction like any other scores 0.5 whatever the
    shape of the effects, which are heavy-tailed: a few words near a decision carry most of a mean, not of this share.
    """
    wins = [np.sign(result.per_clip[:, 0] - result.control_per_clip[:, :, 0]).mean(axis=0) for result in results]
    return Estimate.of((np.concatenate(wins) + 1) / 2, seed)


class RedirectedFeature:
    """A control: the same feature values, written along another direction of the same norm (a `FeatureReader`)."""

    def __init__(self, dictionary: Dictionary, feature: int, direction: Tensor) -> None:
        self.dictionary = dictionary
        self.feature = feature
        norm = dictionary.directions([feature])[0].norm()
        self._direction: Tensor = direction / direction.norm() * norm

    @property
    def site(self) -> str:
        """Canonical name of the site, the dictionary's own."""
        return self.dictionary.site

    def feature_values(self, h: Tensor, features: Sequence[int]) -> Tensor:
        """Return the feature's own values on activations `h [..., d]`, as `[..., 1]`."""
        return self.dictionary.feature_values(h, [self.feature])

    def directions(self, features: Sequence[int]) -> Tensor:
        """Return the other direction, `[1, d]`."""
        return self._direction[None]


def necessity(
    model: SpeechModel,
    dictionary: Dictionary,
    feature: int,
    clips: Sequence[Clip],
    label: str,
    *,
    factor: float = 0.0,
    n_controls: int = 4,
    seed: int = 0,
) -> Necessity:
    """Scale a feature by `factor` and measure what happens to the words that contain the phone `label`.

    Only clips count that have words with and without the phone and that the unedited model transcribes exactly.
    The control makes a change of the same size in the same frames along the directions of `n_controls` other
    features, drawn at random, and averages over them. Intervals: bootstrap over clips.

    Raises:
        InputError: fewer than two such clips.
    """
    others = np.random.default_rng(seed).permutation(dictionary.n_features)
    others = others[others != feature][:n_controls]
    readers = [RedirectedFeature(dictionary, feature, dictionary.directions([int(i)])[0]) for i in others]
    edit = dictionary.feature(feature).scale(factor)
    redirected = [Edit(edit.site, "scale", value=factor, features=(0,), dictionary=reader) for reader in readers]
    used: list[tuple[Clip, Transcript, NDArray[np.bool_]]] = []
    for clip, transcript in zip(clips, model.transcribe(list(clips)), strict=True):
        marks = _words_with(clip, transcript, label)
        if marks is not None:
            used.append((clip, transcript, marks))
    if len(used) < 2:
        raise InputError(
            f"Only {len(used)} of {len(clips)} clips have words with and without {label!r} that the model "
            "transcribes exactly; give more clips with word and phone tiers."
        )
    effects, *others_effects = _clip_effects(model, used, [edit, *redirected])
    controls = np.array(others_effects)
    return Necessity(
        dictionary.name,
        feature,
        label,
        len(used),
        Effect.of(effects, seed),
        Effect.of(controls.mean(axis=0), seed),
        effects,
        controls,
    )


def group_words(tokens: Sequence[Token]) -> list[list[int]]:
    """Return the token positions of each word: a token that begins with a space begins a word."""
    words: list[list[int]] = []
    for position, token in enumerate(tokens):
        if token.text.startswith(" ") or not words:
            words.append([])
        words[-1].append(position)
    return words


def _words_with(clip: Clip, transcript: Transcript, label: str) -> NDArray[np.bool_] | None:
    """Return for each word of the clip whether it contains the phone; None where the clip cannot be used."""
    intervals = clip.tier("words")
    phones = clip.tier("phones")
    spoken = [interval.label.lower() for interval in intervals]
    if not spoken or transcript.text.lower().split() != spoken or len(group_words(transcript.tokens)) != len(spoken):
        return None
    centres = [(phone.start_s + phone.end_s) / 2 for phone in phones if phone.label == label]
    marks = np.array([any(word.start_s <= centre < word.end_s for centre in centres) for word in intervals])
    return marks if 0 < marks.sum() < len(marks) else None


def _clip_effects(
    model: SpeechModel, used: Sequence[tuple[Clip, Transcript, NDArray[np.bool_]]], edits: Sequence[Edit]
) -> NDArray[np.float64]:
    """Return per edit and clip (drop of log-probability, share changed): marked words minus the others, `[e, c, 2]`."""
    language = used[0][1].language
    sweep = [[edit] for edit in edits]
    edited = model.transcribe_each([clip for clip, _, _ in used], sweep, language=language)
    effects = np.empty((len(edits), len(used), 2))
    for number, ((clip, transcript, marks), written) in enumerate(zip(used, edited, strict=True)):
        before = np.array([token.log_prob for token in transcript.tokens])
        forced = model.score_each(clip, transcript, sweep)
        for row, (after, log_probs) in enumerate(zip(written, forced, strict=True)):
            lost = before - np.array(log_probs)
            drops = np.array([lost[positions].sum() for positions in group_words(transcript.tokens)])
            changed = _changed_words(transcript.text.split(), after.text.split())
            effects[row, number] = [values[marks].mean() - values[~marks].mean() for values in (drops, changed)]
    return effects


def _changed_words(before: Sequence[str], after: Sequence[str]) -> NDArray[np.float64]:
    """Return 1 for each word of `before` that `after` does not have in its place, else 0."""
    changed = np.ones(len(before))
    for block in difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        changed[block.a : block.a + block.size] = 0.0
    return changed
