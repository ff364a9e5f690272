"""Words and phones of a clip whose text is known, by a frame phone model and a pronunciation lexicon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from otoscope.alignment.alignment import Alignment
from otoscope.alignment.inventory import SILENCE, SPOKEN_NOISE
from otoscope.alignment.lattice import Builder, Lattice, Segment, Stretch
from otoscope.alignment.lexicon import Lexicon, Pronunciation, plain_word, words_of
from otoscope.alignment.phone_model import PhoneModel
from otoscope.audio import Clip, Interval
from otoscope.errors import InputError

PAUSE_LOG_PROB = -2.0
"""Score of a pause between two words (a log-probability); none is free."""
_PAUSE_FRAMES = 3
_NOISE_FRAMES = 8


def align_phones(
    model: PhoneModel, clip: Clip, lexicon: Lexicon, text: str | None = None, *, unknown: str = "refuse"
) -> Alignment:
    """Align a clip with its text (`text`, or the clip's own); pauses may stand before, between and after words.

    Of several pronunciations the one that the sound fits best is chosen. A word that the lexicon does not have is
    refused, or, with `unknown="any"`, aligned as speech of any phones; likewise a phone that the model does not know.

    Raises:
        InputError: no text, words without pronunciation (all are named), or a phone that the model does not know.
        OtoscopeError: the clip is too short for its text.
    """
    words, said, missing = pronunciations(clip, lexicon, text, unknown)
    posteriors = model.log_posteriors(clip)
    lattice = lattice_of(said, model, lenient=unknown == "any")
    stretches = best_stretches(lattice, model, posteriors)
    return alignment_of(stretches, words, model, posteriors, clip.duration_s, missing)


def pronunciations(
    clip: Clip, lexicon: Lexicon, text: str | None, unknown: str
) -> tuple[list[str], list[tuple[Pronunciation, ...]], tuple[str, ...]]:
    """Return the words of a clip's text, how each may be said, and those that the lexicon does not have.

    Raises:
        InputError: no text, or (unless `unknown` is `any`) words without pronunciation.
    """
    if unknown not in ("refuse", "any"):
        raise InputError(f"unknown={unknown!r} is not possible; choose 'refuse' or 'any'.")
    words = words_of((clip.text if text is None else text) or "")
    if not words:
        raise InputError(f"The clip {clip.clip_id!r} has no text to align.")
    missing = lexicon.missing(words)
    if missing and unknown == "refuse":
        raise InputError(
            f"The lexicon has no pronunciation of {', '.join(missing)} (clip {clip.clip_id!r}); add "
            f"{'it' if len(missing) == 1 else 'them'}, or align with unknown='any'."
        )
    said = [lexicon[word] if word in lexicon else (Pronunciation((SPOKEN_NOISE,)),) for word in words]
    return words, said, tuple(missing)


def lattice_of(said: Sequence[Sequence[Pronunciation]], model: PhoneModel, *, lenient: bool = False) -> Lattice:
    """Return the graph of the given pronunciations of each word, with optional pauses around them.

    With `lenient`, a phone that the model does not know may sound like any speech.

    Raises:
        InputError: a phone that the model does not know.
    """
    builder = Builder()

    def pause(front: list[tuple[int, float]]) -> list[tuple[int, float]]:
        entered = [(state, score + PAUSE_LOG_PROB) for state, score in front]
        return front + builder.chain(
            Segment(-1, SILENCE), [0] * _PAUSE_FRAMES, [False] * (_PAUSE_FRAMES - 1) + [True], entered
        )

    builder.front = pause(builder.front)
    for number, ways in enumerate(said):
        ends: list[tuple[int, float]] = []
        for way in ways:
            front = [(state, score + way.log_prob) for state, score in builder.front]
            for phone in way.phones:
                front = builder.chain(Segment(number, phone), *_states(phone, model, lenient), front)
            ends += front
        builder.front = pause(ends)
    return builder.finish()


def _states(phone: str, model: PhoneModel, lenient: bool) -> tuple[list[int], list[bool]]:
    """The columns that a phone's states read, and which of them may last."""
    if lenient and phone not in (*model.phones, SILENCE, SPOKEN_NOISE):
        return [model.n_columns] * model.settings.parts, [True] * model.settings.parts
    if phone == SPOKEN_NOISE:
        return [model.n_columns] * _NOISE_FRAMES, [False] * (_NOISE_FRAMES - 1) + [True]
    columns = model.columns(phone)
    return columns, [True] * len(columns)


def best_stretches(lattice: Lattice, model: PhoneModel, posteriors: np.ndarray) -> list[Stretch]:
    """Return the segments of the best path through log-posteriors `[t, c]`."""
    _, path = lattice.best_path(model.with_any_phone(posteriors))
    return lattice.stretches(path)


def alignment_of(
    stretches: Sequence[Stretch],
    words: Sequence[str],
    model: PhoneModel,
    posteriors: np.ndarray,
    duration_s: float,
    unknown: tuple[str, ...] = (),
) -> Alignment:
    """Turn the best path's segments into tiers; boundaries lie half-way between frames."""
    hz = model.settings.features.hz

    def seconds(frame: int) -> float:
        return 0.0 if not frame else min(duration_s, (frame - 0.5) / hz) if frame < len(posteriors) else duration_s

    phones, spoken = [], []
    spans: dict[int, tuple[float, float]] = {}
    for segment, first, stop in stretches:
        if segment.word < 0:
            continue
        start_s, end_s = seconds(first), seconds(stop)
        phones.append(Interval(start_s, end_s, segment.phone))
        spans[segment.word] = (spans.get(segment.word, (start_s, 0.0))[0], end_s)
        if segment.phone in model.phones:
            own = np.logaddexp.reduce(posteriors[first:stop, model.columns(segment.phone)], axis=1)
            spoken.append(own - _best_phone(posteriors[first:stop], model))
    margin = float(np.concatenate(spoken).mean()) if spoken else float("nan")
    tier = tuple(Interval(*spans[number], plain_word(word)) for number, word in enumerate(words))
    return Alignment(tier, tuple(phones), margin, unknown)


def _best_phone(posteriors: np.ndarray, model: PhoneModel) -> np.ndarray:
    """Log-probability of the most probable phone (all its parts together) of each frame, `[t]`."""
    parts = posteriors[:, 1:].reshape(len(posteriors), -1, model.settings.parts)
    best: np.ndarray = np.maximum(np.logaddexp.reduce(parts, axis=2).max(1), posteriors[:, 0])
    return best
