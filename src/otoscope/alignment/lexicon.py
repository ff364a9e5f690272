"""A pronunciation lexicon: how each word may be said, in base phones."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

from otoscope.alignment.inventory import SILENCE, base_intervals, guess_alphabet, to_base
from otoscope.audio import Clip
from otoscope.errors import InputError, nearest

_VARIANT = re.compile(r"^(.+?)\(\d+\)$")
_NUMBER = re.compile(r"^-?\d*\.?\d+(e-?\d+)?$", re.IGNORECASE)
_MOST_NUMBERS = 4  # Montreal's: probability of the pronunciation, and three of silence around it

_MOST_WAYS = 64  # of a word with hyphens


@dataclass(frozen=True)
class Pronunciation:
    """One way to say a word: its phones, and the natural logarithm of how likely it is among the others."""

    phones: tuple[str, ...]
    log_prob: float = 0.0


def plain_word(word: str) -> str:
    """Return a word as lexicons write it: lower case, letters and digits with the apostrophes and hyphens inside.

    >>> plain_word("“Don’t!”")
    "don't"
    """
    text = unicodedata.normalize("NFC", word).replace("’", "'").replace("‘", "'").casefold()
    inner = [i for i, c in enumerate(text) if c.isalnum() or unicodedata.combining(c)]
    if not inner:
        return ""
    return text[: inner[-1] + 1] if text.startswith("'") else text[inner[0] : inner[-1] + 1]


def words_of(text: str) -> list[str]:
    """Return the words of a text as written, without those that are punctuation only."""
    return [word for word in text.split() if plain_word(word)]


class Lexicon(Mapping[str, tuple[Pronunciation, ...]]):
    """Words and their pronunciations; a word is found however it is capitalised and punctuated, and one with hyphens
    by its parts.

    >>> Lexicon({"the": [("ð", "ə"), ("ð", "i")]})["The,"][1].phones
    ('ð', 'i')
    """

    def __init__(self, entries: Mapping[str, Iterable[Pronunciation | Iterable[str]]]) -> None:
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for word, ways in entries.items():
            known = found.setdefault(plain_word(word), {})
            for way in ways:
                said = way if isinstance(way, Pronunciation) else Pronunciation(tuple(way))
                if said.phones:
                    known[said.phones] = max(said.log_prob, known.get(said.phones, -math.inf))
        self._entries = {
            word: tuple(Pronunciation(phones, log_prob) for phones, log_prob in ways.items())
            for word, ways in found.items()
            if word and ways
        }
        if not self._entries:
            raise InputError("The lexicon has no words; give words with at least one pronunciation each.")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], alphabet: str | None = None) -> Lexicon:
        """Read CMUdict, a Montreal `.dict` (with or without probabilities), or lines of `word phone phone …`.

        `alphabet` is `arpabet`, `ipa` or `sampa`, `own` to keep the symbols as they are, or None to find out. Comments
        (`;;;`, and `#` after a CMUdict entry) are left out.

        Raises:
            InputError: missing, not UTF-8, an entry without phones, or a phone that the alphabet does not have (with
                its line).
        """
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 (byte {error.start}); save the lexicon as UTF-8.") from None
        rows = [(number, *entry) for number, line in enumerate(lines, 1) if (entry := _entry(line))]
        for number, word, _, phones in rows:
            if not phones:
                raise InputError(f"{path}, line {number}: the word {word!r} has no phones.")
        chosen = alphabet or guess_alphabet({phone for *_, phones in rows for phone in phones})
        entries: dict[str, list[Pronunciation]] = {}
        for number, word, log_prob, phones in rows:
            entries.setdefault(word, []).append(
                Pronunciation(_in_base(phones, chosen, f"{path}, line {number}"), log_prob)
            )
        return cls(entries)

    @classmethod
    def from_clips(cls, clips: Iterable[Clip], alphabet: str | None = None) -> Lexicon:
        """Collect how words are said in clips whose words and phones are known (tiers `words` and `phones`).

        Pronunciations weigh by how often each was heard. `alphabet` as in `from_file`.

        Raises:
            InputError: no clip has both tiers, or a phone that the alphabet does not have.
        """
        known = [clip for clip in clips if clip.tier("words") and clip.tier("phones")]
        if not known:
            raise InputError("No clip has both a words and a phones tier, so no pronunciations can be collected.")
        chosen = alphabet or guess_alphabet({each.label for clip in known for each in clip.tier("phones")})
        heard: dict[str, dict[tuple[str, ...], int]] = {}
        for clip in known:
            phones = clip.tier("phones") if chosen == "own" else base_intervals(clip.tier("phones"), chosen)
            for word in clip.tier("words"):
                inside = tuple(
                    each.label
                    for each in phones
                    if word.start_s <= (each.start_s + each.end_s) / 2 < word.end_s and each.label != SILENCE
                )
                if inside and plain_word(word.label):
                    ways = heard.setdefault(plain_word(word.label), {})
                    ways[inside] = ways.get(inside, 0) + 1
        return cls(
            {
                word: [Pronunciation(phones, math.log(count / max(ways.values()))) for phones, count in ways.items()]
                for word, ways in heard.items()
            }
        )

    def missing(self, words: Iterable[str]) -> list[str]:
        """Return the words that have no pronunciation, each once, in order."""
        return list(dict.fromkeys(plain_word(word) for word in words if word not in self and plain_word(word)))

    @property
    def phones(self) -> tuple[str, ...]:
        """Every phone of the lexicon, sorted."""
        return tuple(sorted({phone for ways in self._entries.values() for way in ways for phone in way.phones}))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all words and pronunciations."""
        rows = sorted((word, [[*way.phones, way.log_prob] for way in ways]) for word, ways in self._entries.items())
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def __or__(self, other: Lexicon) -> Lexicon:
        """Return both lexicons in one; words of both have the pronunciations of both."""
        words = dict.fromkeys((*self._entries, *other._entries))
        return Lexicon({word: [*self._entries.get(word, ()), *other._entries.get(word, ())] for word in words})

    def __getitem__(self, word: str) -> tuple[Pronunciation, ...]:
        ways = self._ways(plain_word(word))
        if not ways:
            plain = plain_word(word)
            hint = nearest(plain, self._entries) if len(self._entries) < 5000 else ""
            raise InputError(f"The lexicon does not know the word {plain!r}{hint or '.'}")
        return ways

    def _ways(self, plain: str) -> tuple[Pronunciation, ...]:
        if plain in self._entries or "-" not in plain:
            return self._entries.get(plain, ())
        parts = [self._entries.get(part, ()) for part in plain.split("-") if part]
        return tuple(
            Pronunciation(sum((way.phones for way in ways), ()), sum(way.log_prob for way in ways))
            for ways in islice(product(*parts), _MOST_WAYS)
        )

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and bool(self._ways(plain_word(word)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Lexicon({len(self):,} words, {len(self.phones)} phones)"


def _entry(line: str) -> tuple[str, float, list[str]] | None:
    """Return `(word, log probability, phones)` of a line, or None for a blank or a comment."""
    if line.startswith(";;;") or not line.strip():
        return None
    word, *rest = line.split("\t") if "\t" in line else line.split()
    fields = " ".join(rest).split(" #")[0].split()
    numbers = 0
    while numbers < min(_MOST_NUMBERS, len(fields)) and _NUMBER.match(fields[numbers]):
        numbers += 1
    probability = float(fields[0]) if numbers else 1.0
    variant = _VARIANT.match(word)
    return variant[1] if variant else word.strip(), math.log(max(probability, 1e-4)), fields[numbers:]


def _in_base(phones: list[str], alphabet: str, place: str) -> tuple[str, ...]:
    if alphabet == "own":
        return tuple(phones)
    found: list[str] = []
    for phone in phones:
        base = to_base(phone, alphabet)
        if base is None:
            raise InputError(f"{place}: the phone {phone!r} is not {alphabet}; give alphabet= (or 'own' to keep all).")
        found += [each for each in base if each != SILENCE]
    return tuple(found)
