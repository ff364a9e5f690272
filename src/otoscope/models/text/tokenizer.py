"""Tokens and text: a checkpoint's tokenizer, without transformers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from otoscope.errors import OtoscopeError
from otoscope.models.text.letters import LetterTokenizer


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
        vocabulary = _json(folder / "vocab.json")
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        merges = [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#version")]
        added = _added_tokens(folder)
        marked = json.dumps(_json(folder / "special_tokens_map.json"), ensure_ascii=False)
        special = {name: index for name, index in added.items() if _is_marker(name) or json.dumps(name) in marked}
        words = {name: index for name, index in added.items() if name not in special}
        return cls.from_merges(vocabulary, merges, special, words)

    @classmethod
    def from_ranks(cls, path: Path, special: Mapping[str, int]) -> BytePairTokenizer:
        """Read a `.tiktoken` file: a line of base64 and rank for each run of bytes that is a token.

        tiktoken joins whatever neighbours make a token of the lowest rank, so each way of cutting a token in two
        becomes a merge.
        """
        ranks = {}
        for line in path.read_bytes().splitlines():
            token, rank = line.split()
            ranks[base64.b64decode(token)] = int(rank)
        written = {token: "".join(_BYTE_LETTERS[byte] for byte in token) for token in ranks}
        merges = []
        for token in sorted(ranks, key=ranks.__getitem__):
            halves = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
            merges += [(written[left], written[right]) for left, right in halves if left in ranks and right in ranks]
        return cls.from_merges({written[token]: rank for token, rank in ranks.items()}, merges, special)

    @classmethod
    def from_merges(
        cls,
        vocabulary: Mapping[str, int],
        merges: Iterable[Any],
        special: Mapping[str, int],
        words: Mapping[str, int] | None = None,
    ) -> BytePairTokenizer:
        """Make one from tokens (in GPT-2's byte alphabet), merges in order, special tokens, and words added whole."""
        from tokenizers import AddedToken, decoders, models, pre_tokenizers
        from tokenizers import Tokenizer as Backend

        # added tokens are put into the vocabulary too: only there can they have numbers of their own
        known = {**vocabulary, **special, **(words or {})}
        backend = Backend(models.BPE(known, list(merges), ignore_merges=True))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        names = sorted(special, key=special.__getitem__)
        backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
        backend.add_tokens([AddedToken(name, normalized=False) for name in words or ()])
        return cls(backend)

    def with_special(self, special: Mapping[str, int]) -> BytePairTokenizer:
        """Return this tokenizer knowing `special` tokens that its files left out (old ones lack the timestamps).

        Raises:
            ValueError: their numbers are taken, or do not follow those of the files.
        """
        from tokenizers import AddedToken

        known = self.vocabulary
        if any(known.get(name, index) != index for name, index in special.items()):
            raise ValueError("its special tokens have other numbers")
        missing = sorted((name for name in special if name not in known), key=special.__getitem__)
        if missing and [special[name] for name in missing] != list(range(len(known), len(known) + len(missing))):
            raise ValueError("special tokens are missing in the middle of it")
        if missing:
            self._backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
            return BytePairTokenizer(self._backend)
        return self

    @cached_property
    def vocabulary(self) -> Mapping[str, int]:
        """Every token's number, special ones included."""
        known: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return known

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The numbers of tokens that are not text; timestamps count, though checkpoints do not mark them so."""
        marked = {index for index, token in self._backend.get_added_tokens_decoder().items() if token.special}
        named = {index for name, index in self.vocabulary.items() if _is_marker(name)}
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


def _is_marker(name: str) -> bool:
    """Whether a token's name is that of Whisper's special tokens, e.g. `<|en|>`."""
    return name.startswith("<|") and name.endswith("|>")


def _added_tokens(folder: Path) -> dict[str, int]:
    """The tokens beside the vocabulary: those of `added_tokens.json` and of `tokenizer_config.json`."""
    added: dict[str, int] = dict(_json(folder / "added_tokens.json"))
    for index, token in _json(folder / "tokenizer_config.json").get("added_tokens_decoder", {}).items():
        added[token["content"]] = int(index)
    return added


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a file that is not there counts as empty."""
    if not path.is_file():
        return {}
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in GPT-2's vocabularies: itself where it prints, else one from U+0100 on."""
    printing = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in printing]
    return [chr(byte) if byte in printing else chr(256 + hidden.index(byte)) for byte in range(256)]


_BYTE_LETTERS = _byte_letters()


def find_tokenizer(folder: Path) -> Tokenizer | None:
    """Return the tokenizer of a checkpoint folder, or None if it has none.

    Raises:
        OtoscopeError: its files are damaged.
    """
    try:
        if (folder / "tokenizer.json").is_file() or (folder / "merges.txt").is_file():
            return BytePairTokenizer.from_folder(folder)
        if (folder / "vocab.json").is_file():
            return LetterTokenizer.from_folder(folder)
    except OtoscopeError:
        raise
    except Exception as error:
        raise OtoscopeError(f"The tokenizer in {folder} is damaged and cannot be read ({error}).") from error
    return None
