"""Words of a clip whose text is known, by the cross-attention of a Whisper model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from otoscope.alignment.alignment import Alignment
from otoscope.alignment.lexicon import plain_word, words_of
from otoscope.alignment.loudness import out_of_pauses
from otoscope.audio import Clip, Interval
from otoscope.errors import InputError, OtoscopeError

if TYPE_CHECKING:
    from otoscope.models import SpeechModel

_FEWEST_HEARD = 0.5
"""Share of the words of a long clip that the model must write itself, so that each finds its window."""

Span = tuple[str, float, float, float]
"""A written piece, its start and end in seconds, and its probability."""


def align_words(
    model: SpeechModel, clip: Clip, text: str | None = None, heads: Sequence[tuple[int, int]] | None = None
) -> Alignment:
    """Align a clip with its text (`text`, else the clip's own, else what the model writes) by cross-attention.

    `heads` are decoder heads `(layer, head)`; without them, those that the checkpoint names (see `choose_heads` for
    better ones). Times come in steps of 0.02 s; words that reach into a pause are cut off where the sound begins or
    ends, which the attention does not tell. The words of a clip longer than a window go to the windows in which
    the model itself writes them. The margin is the mean log-probability of a word, given the sound and the words
    before.

    Raises:
        InputError: a model without text decoder, an unknown head, a text that does not fit, or a long clip in which
            the model hears less than half of the words.
    """
    given = clip.text if text is None else text
    if given is None:
        given = str(model.transcribe(clip).text)
    words = words_of(given)
    if not words:
        return Alignment((), margin=math.nan)
    spans: list[Span] = []
    for piece, offset_s, part in _by_window(model, clip, words):
        spans += [(w, a + offset_s, b + offset_s, p) for w, a, b, p in _timed(model, piece, part, heads)]
    tier: list[Interval] = []
    edge_s = 0.0
    for word, start_s, end_s, _ in spans:  # words that share a piece of text, or a window's edge, share its time
        start_s = min(max(start_s, edge_s), clip.duration_s)
        edge_s = min(max(start_s, end_s), clip.duration_s)
        tier.append(Interval(start_s, edge_s, plain_word(word)))
    probabilities = [max(p, 1e-10) for *_, p in spans]
    return Alignment(tuple(out_of_pauses(tier, clip)), margin=sum(map(math.log, probabilities)) / len(probabilities))


def language_of(model: SpeechModel, clip: Clip) -> str | None:
    """Return the clip's language as the model calls it, or None where it does not know it."""
    code = (clip.language or "").split("-")[0].lower()
    return code if f"<|{code}|>" in (model.checkpoint.generation.get("lang_to_id") or {}) else None


def _timed(model: SpeechModel, clip: Clip, words: Sequence[str], heads: Sequence[tuple[int, int]] | None) -> list[Span]:
    """The given words with their times, put together from the pieces that the tokenizer makes of the text."""
    from otoscope.models.generation import word_times

    text = " ".join(words)
    pieces = word_times(model, clip, text, heads, language=language_of(model, clip))
    owner = [(number, piece) for number, piece in enumerate(pieces) for c in piece.word if not c.isspace()]
    if len(owner) != sum(len(word) for word in words):
        raise OtoscopeError(
            f"The tokenizer of {model.name} cannot write the text of {clip.clip_id!r} as it is ({text[:60]!r}); leave "
            "out the characters that it does not know."
        )
    found, at = [], 0
    for word in words:
        mine = dict(owner[at : at + len(word)]).values()
        at += len(word)
        probability = math.exp(sum(math.log(max(p.probability, 1e-10)) for p in mine) / len(mine))
        found.append((word, min(p.start_s for p in mine), max(p.end_s for p in mine), probability))
    return found


def _by_window(model: SpeechModel, clip: Clip, words: Sequence[str]) -> list[tuple[Clip, float, list[str]]]:
    """The parts of a clip that fit a window, when each begins, and the words that are said in it."""
    window_s = model.dims.window_s
    n_windows = max(1, math.ceil(clip.duration_s / window_s - 1e-6))
    if n_windows == 1:
        return [(clip, 0.0, list(words))]
    written = [(token.window, token.text) for token in model.transcribe(clip, language=language_of(model, clip)).tokens]
    heard: list[tuple[int, str]] = []
    for number in range(n_windows):
        said = "".join(text for window, text in written if window == number)
        heard += [(number, plain_word(word)) for word in words_of(said)]
    blocks = SequenceMatcher(
        None, [word for _, word in heard], [plain_word(word) for word in words], autojunk=False
    ).get_matching_blocks()
    places: list[int | None] = [None] * len(words)
    for block in blocks:
        for k in range(block.size):
            places[block.b + k] = heard[block.a + k][0]
    n_heard = sum(place is not None for place in places)
    if n_heard < _FEWEST_HEARD * len(words):
        raise InputError(
            f"{clip.clip_id!r} lasts {clip.duration_s:.1f} s, more than the window of {window_s:g} s, and {model.name} "
            f"hears only {n_heard} of its {len(words)} words, so they cannot be placed; cut it with start_s and end_s."
        )
    last = next(place for place in places if place is not None)
    parts: list[list[str]] = [[] for _ in range(n_windows)]
    for word, place in zip(words, places, strict=True):
        last = last if place is None else place
        parts[last].append(word)
    found = []
    for number, part in enumerate(parts):
        start_s = number * window_s
        stop_s = min(clip.duration_s, start_s + window_s)
        if part:
            piece = replace(clip, start_s=clip.start_s + start_s, end_s=clip.start_s + stop_s, tiers={})
            found.append((piece, start_s, part))
    return found
