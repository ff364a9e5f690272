"""The page that goes with exported sound: who made it, and what it may be used for."""

from __future__ import annotations

from collections.abc import Iterable

from otoscope.audio import Corpus
from otoscope.audio.licence import credit_of

PLACE = "sounds/LICENCE.txt"
UNKNOWN = "The corpus does not say who made the sound or what it may be used for."


def credits_page(corpus: Corpus, licence: str, clips: Iterable[tuple[int, str]], window_s: int) -> str:
    """Return the text for `sounds/LICENCE.txt`; `clips` are the folders of sound with the ids of their clips."""
    said = [(number, clip_id, credit_of(corpus.get(clip_id))) for number, clip_id in clips]
    own = [f"{number} ({clip_id}): {credit}" for number, clip_id, credit in said if credit]
    parts = [
        f"Excerpts of {window_s} s of the corpus {corpus.name}, one folder per recording.",
        licence or ("" if own else UNKNOWN),
        "\n".join(["What recordings say of themselves, by folder:", *own]) if own else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
