"""From tokens to words: where words begin, and which punctuation belongs to which word."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, field

from otoscope.models.text.tokenizer import Tokenizer

_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
_INCOMPLETE = "\ufffd"  # what a tokenizer writes for a character whose bytes are not all there
PREPENDED = "\"'“¿([{-"
"""Punctuation that belongs to the word after it."""
APPENDED = "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word before it."""


@dataclass(frozen=True)
class Word:
    """One written word and when it is spoken."""

    word: str
    """As written, with the space before it."""
    start_s: float
    """Seconds from the start of the clip."""
    end_s: float
    probability: float
    """Mean probability of its tokens, given the sound and the words before."""
    tokens: tuple[int, ...] = field(default=(), repr=False)


def split_words(ids: Sequence[int], tokenizer: Tokenizer, language: str | None) -> tuple[list[str], list[list[int]]]:
    """Return the words that tokens write, and the tokens of each; special tokens are words of their own.

    Languages written without spaces are split wherever a character ends.

    Source: `whisper.tokenizer.Tokenizer.split_to_word_tokens`.
    """
    pieces, piece_ids = _split_characters(ids, tokenizer)
    if language in _UNSPACED:
        return pieces, piece_ids
    words: list[str] = []
    word_ids: list[list[int]] = []
    for piece, tokens in zip(pieces, piece_ids, strict=True):
        apart = tokens[0] in tokenizer.special_ids or piece.startswith(" ") or piece.strip() in string.punctuation
        if apart or not words:
            words.append(piece)
            word_ids.append(tokens)
        else:
            words[-1] += piece
            word_ids[-1] = word_ids[-1] + tokens
    return words, word_ids


def _split_characters(ids: Sequence[int], tokenizer: Tokenizer) -> tuple[list[str], list[list[int]]]:
    """The shortest runs of tokens that write whole characters."""
    whole = tokenizer.decode(list(ids))
    pieces: list[str] = []
    piece_ids: list[list[int]] = []
    run: list[int] = []
    offset = 0
    for token in ids:
        run.append(token)
        text = tokenizer.decode(run)
        at = text.find(_INCOMPLETE)
        # a replacement character that the whole text has too is not a cut one
        if at < 0 or whole[offset + at : offset + at + 1] == _INCOMPLETE:
            pieces.append(text)
            piece_ids.append(run)
            run = []
            offset += len(text)
    return pieces, piece_ids


def merge_punctuation(words: Sequence[Word]) -> list[Word]:
    """Join punctuation to the word it belongs to; the word keeps its own times and probability.

    A word that was merged away stays in its place with an empty text and no tokens.

    Source: `whisper.timing.merge_punctuations`.
    """
    merged = list(words)
    after = len(merged) - 1
    for here in range(len(merged) - 2, -1, -1):
        mark = merged[here].word
        if mark.startswith(" ") and mark.strip() in PREPENDED:
            merged[after] = _joined(merged[here], merged[after], keep=merged[after])
            merged[here] = _emptied(merged[here])
        else:
            after = here
    before = 0
    for here in range(1, len(merged)):
        if not merged[before].word.endswith(" ") and merged[here].word in APPENDED:
            merged[before] = _joined(merged[before], merged[here], keep=merged[before])
            merged[here] = _emptied(merged[here])
        else:
            before = here
    return merged


def _joined(first: Word, second: Word, *, keep: Word) -> Word:
    return Word(first.word + second.word, keep.start_s, keep.end_s, keep.probability, (*first.tokens, *second.tokens))


def _emptied(word: Word) -> Word:
    return Word("", word.start_s, word.end_s, word.probability)
