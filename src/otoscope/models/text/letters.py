"""Tokens of CTC models: letters, or phones, one number each, and the blank that stands for "nothing new"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from otoscope.errors import InputError

_SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
"""Settings that name tokens which are not text, and what they are where the checkpoint does not say."""


class LetterTokenizer:
    """The letters (or phones) of a CTC checkpoint.

    Letters are written together, with a token of their own between words; phones are written with spaces.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        *,
        blank: str = "<pad>",
        between_words: str | None = "|",
        special: Iterable[str] = (),
        phones: bool = False,
        written_low: bool = False,
    ) -> None:
        self.vocabulary = vocabulary
        """Every token's number, special ones included."""
        self.blank = vocabulary[blank]
        """The number of the blank."""
        self.between_words = between_words
        self.phones = phones
        self.special_ids = frozenset(vocabulary[name] for name in (blank, *special) if name in vocabulary)
        """The numbers of tokens that are not text."""
        self._written_low = written_low
        self._tokens = {index: token for token, index in vocabulary.items()}

    @classmethod
    def from_folder(cls, folder: Path) -> LetterTokenizer | None:
        """Read `vocab.json` and what `tokenizer_config.json` says about it; None if it is no vocabulary for CTC.

        Raises:
            InputError: a vocabulary of several languages of which none is chosen.
        """
        settings = {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}
        kind = settings.get("tokenizer_class") or _json(folder / "config.json").get("tokenizer_class") or "CTC"
        vocabulary = _of_language(_json(folder / "vocab.json"), settings.get("target_lang"))
        for index, token in (settings.get("added_tokens_decoder") or {}).items():
            vocabulary.setdefault(_content(token), int(index))
        for token, number in _json(folder / "added_tokens.json").items():
            vocabulary.setdefault(token, number)
        special = {name: _content(settings.get(name) or usual) for name, usual in _SPECIAL.items()}
        blank = special["pad_token"]
        if not ("CTC" in kind or kind.startswith("Wav2Vec2")) or blank not in vocabulary:
            return None
        phones = "Phoneme" in kind
        return cls(
            vocabulary,
            blank=blank,
            between_words=_delimiter(settings, None if phones else "|"),
            special=special.values(),
            phones=phones,
            written_low=bool(settings.get("do_lower_case", False)),
        )

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text: its letters, in the case that the vocabulary has, or its phones, with spaces.

        Raises:
            InputError: the text has a letter or phone that the model does not know.
        """
        words = text.split()
        if self.phones:
            pieces = words
        else:
            pieces = [piece for number, word in enumerate(words) for piece in self._pieces(word, first=not number)]
        ids = [self._number(piece) for piece in pieces]
        unknown = [piece for piece, index in zip(pieces, ids, strict=True) if index is None]
        if unknown:
            what = "phone" if self.phones else "letter"
            raise InputError(f"The model knows no {what} {unknown[0]!r} (in {text!r}); it knows {self._known()}.")
        return [index for index in ids if index is not None]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of tokens as they stand: no runs are joined; special ones print as their names."""
        tokens = [self._tokens.get(i, "") for i in ids if not (skip_special and i in self.special_ids)]
        if self.phones:
            return " ".join(token for token in tokens if token != self.between_words)
        text = "".join(" " if token == self.between_words else token for token in tokens)
        return text.lower() if self._written_low else text

    @cached_property
    def _text_tokens(self) -> list[str]:
        return [token for token, index in self.vocabulary.items() if index not in self.special_ids and token]

    @cached_property
    def _longest_first(self) -> re.Pattern[str]:
        long = sorted((token for token in self._text_tokens if len(token) > 1), key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, long), "."]), re.DOTALL)

    def _pieces(self, word: str, *, first: bool) -> list[str]:
        gap = [] if first or self.between_words is None else [self.between_words]
        return gap + self._longest_first.findall(word)

    def _number(self, piece: str) -> int | None:
        """The number of a letter, in whichever case it is known."""
        candidates = (piece,) if self.phones else (piece, piece.upper(), piece.lower())
        found = (self.vocabulary.get(candidate) for candidate in candidates)
        return next((index for index in found if index is not None and index not in self.special_ids), None)

    def _known(self) -> str:
        return " ".join(sorted(token for token in self._text_tokens if token != self.between_words))


def _of_language(vocabulary: dict[str, Any], language: str | None) -> dict[str, int]:
    """The vocabulary itself, or its part for one language."""
    if not any(isinstance(part, dict) for part in vocabulary.values()):
        return vocabulary
    if language not in vocabulary:
        raise InputError(
            f"The vocabulary has {len(vocabulary)} languages; name one of them as target_lang in tokenizer_config.json."
        )
    return dict(vocabulary[language])


def _delimiter(settings: Mapping[str, Any], usual: str | None) -> str | None:
    extra = settings.get("model_specific_special_tokens") or {}
    found = settings.get("word_delimiter_token", extra.get("word_delimiter_token", usual))
    return None if found is None else _content(found)


def _content(token: Any) -> str:
    """A token's text, which settings give alone or with what else is known of it."""
    return str(token["content"] if isinstance(token, dict) else token)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return value
