"""Tokens and text: a checkpoint's tokenizer, without transformers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from otoscope.errors import OtoscopeError


class Tokenizer(Protocol):
    """What models need of a tokenizer."""

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Every token's number, special ones included."""

    @property
    def special_ids(self) -> frozenset[int]:
        """The numbers of tokens that are not text."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without special ones around it."""

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of tokens."""


class BytePairTokenizer:
    """Byte-level BPE, as Whisper uses it; a thin layer over the `tokenizers` package."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    @classmethod
    def from_folder(cls, folder: Path) -> BytePairTokenizer:
        """Read `tokenizer.json`, or `vocab.json` and `merges.txt` (with `added_tokens.json`)."""
        from tokenizers import Tokenizer as Backend

        if (folder / "tokenizer.json").is_file():
            backend = Backend.from_file(str(folder / "tokenizer.json"))
            backend.no_truncation()
            backend.no_padding()
            return cls(backend)
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        merges = [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#version")]
        added = folder / "added_tokens.json"
        special = json.loads(added.read_text(encoding="utf-8")) if added.is_file() else {}
        return cls.from_merges(vocabulary, merges, special)

    @classmethod
    def from_merges(
        cls, vocabulary: Mapping[str, int], merges: Iterable[Any], special: Mapping[str, int]
    ) -> BytePairTokenizer:
        """Make one from tokens (in GPT-2's byte alphabet), merges in order, and special tokens."""
        from tokenizers import AddedToken, decoders, models, pre_tokenizers
        from tokenizers import Tokenizer as Backend

        backend = Backend(models.BPE(dict(vocabulary), list(merges)))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        names = sorted(special, key=special.__getitem__)
        backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
        return cls(backend)

    @cached_property
    def vocabulary(self) -> Mapping[str, int]:
        """Every token's number, special ones included."""
        known: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return known

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The numbers of tokens that are not text; timestamps count, though checkpoints do not mark them so."""
        marked = {index for index, token in self._backend.get_added_tokens_decoder().items() if token.special}
        named = {i for name, i in self.vocabulary.items() if name.startswith("<|") and name.endswith("|>")}
        return frozenset(marked | named)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without special ones around it."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of tokens; special ones print as their names unless skipped."""
        kept = [index for index in ids if not (skip_special and index in self.special_ids)]
        text: str = self._backend.decode(kept, skip_special_tokens=False)
        return text


def find_tokenizer(folder: Path) -> Tokenizer | None:
    """Return the tokenizer of a checkpoint folder, or None if it has none.

    Raises:
        OtoscopeError: its files are damaged.
    """
    try:
        if (folder / "tokenizer.json").is_file() or (folder / "merges.txt").is_file():
            return BytePairTokenizer.from_folder(folder)
    except Exception as error:
        raise OtoscopeError(f"The tokenizer in {folder} is damaged and cannot be read ({error}).") from error
    return None
