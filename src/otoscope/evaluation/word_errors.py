"""Word and character errors of a transcript: substitutions, insertions and deletions apart."""

from __future__ import annotations

import re
from typing import NamedTuple

import jiwer

_NOT_SPOKEN = re.compile(r"[^\w']+|_")


class ErrorCounts(NamedTuple):
    """What separates a transcript from the reference: the smallest number of edits between them (Levenshtein)."""

    substitutions: int
    insertions: int
    deletions: int
    length: int
    """Words (or characters) of the reference."""

    @property
    def total(self) -> int:
        """All errors."""
        return self.substitutions + self.insertions + self.deletions


def spoken_form(text: str) -> str:
    """Return lower-case words without punctuation (apostrophes stay), one space between them.

    Numbers and abbreviations stay as they are written.

    >>> spoken_form("Hello,  World -- it's 5!")
    "hello world it's 5"
    """
    return _NOT_SPOKEN.sub(" ", text.lower()).strip()


def word_errors(reference: str, written: str) -> ErrorCounts:
    """Count word errors between two texts in `spoken_form`; without a reference every word is an insertion."""
    if not reference:
        return ErrorCounts(0, len(written.split()), 0, 0)
    return _counts(jiwer.process_words(reference, written), len(reference.split()))


def character_errors(reference: str, written: str) -> ErrorCounts:
    """Count character errors (spaces are characters) between two texts in `spoken_form`."""
    if not reference:
        return ErrorCounts(0, len(written), 0, 0)
    return _counts(jiwer.process_characters(reference, written), len(reference))


def _counts(found: jiwer.WordOutput | jiwer.CharacterOutput, length: int) -> ErrorCounts:
    return ErrorCounts(found.substitutions, found.insertions, found.deletions, length)
