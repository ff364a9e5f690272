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


@dataclass(frozen=True)
class Effect:
    """What an edit does to words with a label, minus what it does to the other words of the same clip."""

    log_prob: Estimate
    """Drop of the word's log-probability (natural, teacher-forced): positive means the words need the feature."""
    changed: Estimate
    """Share of words that are written differently."""


@dataclass(frozen=True)
class Necessity:
    """The effect of removing one feature, beside an equally large change along another feature's direction."""

    dictionary: str
    feature: int
    label: str
    n_clips: int
    edit: Effect
    control: Effect


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
    n_controls: int = 8,
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
    rows, controls = [], []
    for clip, transcript in zip(clips, model.transcribe(list(clips)), strict=True):
        marks = _words_with(clip, transcript, label)
        if marks is None:
            continue
        rows.append(_clip_effect(model, clip, transcript, marks, edit))
        controls.append(np.mean([_clip_effect(model, clip, transcript, marks, other) for other in redirected], axis=0))
    if len(rows) < 2:
        raise InputError(
            f"Only {len(rows)} of {len(clips)} clips have words with and without {label!r} that the model "
            "transcribes exactly; give more clips with word and phone tiers."
        )
    rng = np.random.default_rng(seed)
    return Necessity(
        dictionary.name,
        feature,
        label,
        len(rows),
        _effect(np.array(rows), rng),
        _effect(np.array(controls), rng),
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


def _clip_effect(
    model: SpeechModel, clip: Clip, transcript: Transcript, marks: NDArray[np.bool_], edit: Edit
) -> tuple[float, float]:
    """Return (drop of log-probability, share changed) of marked words minus that of the other words."""
    after = np.array(model.score(clip, transcript, edits=[edit]))
    before = np.array([token.log_prob for token in transcript.tokens])
    drops = np.array([(before - after)[positions].sum() for positions in group_words(transcript.tokens)])
    words = transcript.text.split()
    edited = model.transcribe(clip, edits=[edit], language=transcript.language).text.split()
    changed = np.ones(len(words))
    for block in difflib.SequenceMatcher(None, words, edited, autojunk=False).get_matching_blocks():
        changed[block.a : block.a + block.size] = 0.0
    return (
        float(drops[marks].mean() - drops[~marks].mean()),
        float(changed[marks].mean() - changed[~marks].mean()),
    )


def _effect(rows: NDArray[np.float64], rng: np.random.Generator) -> Effect:
    return Effect(*(_bootstrap(column, rng) for column in rows.T))


def _bootstrap(values: NDArray[np.float64], rng: np.random.Generator) -> Estimate:
    drawn = values[rng.integers(len(values), size=(N_BOOTSTRAP, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))
