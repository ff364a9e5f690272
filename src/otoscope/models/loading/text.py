"""How a checkpoint writes: its tokenizer and its rules of decoding, wherever they are to be found."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otoscope.errors import InputError
from otoscope.models.dims import Dims
from otoscope.models.loading.released import hub_name, released_names
from otoscope.models.loading.special_tokens import ENGLISH_VOCABULARY, decoding_rules, special_tokens
from otoscope.models.text.tokenizer import BytePairTokenizer, Tokenizer, find_tokenizer


@dataclass(frozen=True, eq=False)
class Text:
    """What a checkpoint needs to write and read text."""

    tokenizer: Tokenizer | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)
    """Special tokens and rules of decoding, in the words of a `generation_config.json`."""


def text_of_folder(folder: Path, dims: Dims, generation: Mapping[str, Any], chosen: str | None = None) -> Text:
    """Return how a Hugging Face checkpoint writes: its own tokenizer and rules, completed where old ones are silent.

    `chosen` is a tokenizer that the caller prefers (see `open_tokenizer`).
    """
    tokenizer = open_tokenizer(chosen, dims) if chosen is not None else find_tokenizer(folder)
    if "decoder" not in dims.traits:
        return Text(tokenizer, generation)
    tokenizer = _completed(tokenizer, dims.n_vocab) if tokenizer is not None else standard_tokenizer(dims.n_vocab)
    if tokenizer is None:
        return Text(None, generation)
    told = decoding_rules(tokenizer, dims.n_vocab, openai=False)
    if generation.get("is_multilingual") is False:
        told = {name: value for name, value in told.items() if name not in ("lang_to_id", "task_to_id")}
    return Text(tokenizer, told | {name: value for name, value in generation.items() if value is not None})


def text_of_file(path: Path, dims: Dims, generation: Mapping[str, Any], chosen: str | None = None) -> Text:
    """Return how a `.pt` file of openai-whisper writes: by a tokenizer beside it that fits, else by the one that all
    models with so many tokens share; with openai-whisper's rules, unless `generation` (of a folder) says otherwise."""
    tokenizer = open_tokenizer(chosen, dims) if chosen is not None else _beside(path, dims.n_vocab)
    tokenizer = tokenizer or standard_tokenizer(dims.n_vocab)
    if tokenizer is None:
        return Text(None, generation)
    return Text(tokenizer, decoding_rules(tokenizer, dims.n_vocab, openai=True) | dict(generation))


def open_tokenizer(given: str, dims: Dims) -> Tokenizer:
    """Open a tokenizer by name: a folder, a `tokenizer.json`, a `.tiktoken` file, or a model of the Hub that shares it.

    Raises:
        InputError: there is none, or it has more tokens than the model.
    """
    path = Path(given).expanduser()
    found: Tokenizer | None
    if path.suffix == ".tiktoken" and path.is_file():
        found = BytePairTokenizer.from_ranks(path, special_tokens(dims.n_vocab))
    elif path.exists():
        found = find_tokenizer(path if path.is_dir() else path.parent)
    else:
        from otoscope.models.loading.folders import find_checkpoint

        found = find_tokenizer(find_checkpoint(given)[1])
    if found is None:
        raise InputError(f"There is no tokenizer in {given!r}; give a folder with tokenizer.json, or a .tiktoken file.")
    if len(found.vocabulary) > dims.n_vocab:
        raise InputError(f"The tokenizer {given!r} has {len(found.vocabulary)} tokens, the model only {dims.n_vocab}.")
    return _completed(found, dims.n_vocab)


def standard_tokenizer(n_vocab: int) -> Tokenizer | None:
    """Return the tokenizer of OpenAI's models with `n_vocab` tokens: from an installed openai-whisper, else from a
    checkpoint of the Hub; None where neither can be had, or no such models exist."""
    special = special_tokens(n_vocab)
    if not special:
        return None
    ranks = _ranks_of_openai("gpt2" if n_vocab == ENGLISH_VOCABULARY else "multilingual")
    if ranks is not None:
        return BytePairTokenizer.from_ranks(ranks, special)
    file = _from_hub(n_vocab)
    if file is None:
        return None
    found = find_tokenizer(file.parent)
    return None if found is None else _completed(found, n_vocab)


def _ranks_of_openai(name: str) -> Path | None:
    """A rank file of the installed openai-whisper package, which is not imported."""
    found = importlib.util.find_spec("whisper")
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        file = Path(place) / "assets" / f"{name}.tiktoken"
        if file.is_file():
            return file
    return None


def _from_hub(n_vocab: int) -> Path | None:
    """The `tokenizer.json` of a released model with `n_vocab` tokens: of any in the cache, else downloaded."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    names = [name for name in released_names() if _n_vocab(name) == n_vocab]
    for name in names:
        cached = try_to_load_from_cache(hub_name(name), "tokenizer.json")
        if isinstance(cached, str | os.PathLike):
            return Path(cached)
    try:
        return Path(hf_hub_download(hub_name(names[0]), "tokenizer.json"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError):
        return None


def _n_vocab(released: str) -> int:
    if released.endswith(".en"):
        return ENGLISH_VOCABULARY
    return ENGLISH_VOCABULARY + (2 if released in ("large", "large-v3", "turbo", "large-v3-turbo") else 1)


def _beside(path: Path, n_vocab: int) -> Tokenizer | None:
    """The tokenizer in the folder of a `.pt` file, if it is of a model with as many tokens (several files may share
    a folder)."""
    found = find_tokenizer(path.parent)
    found = None if found is None else _completed(found, n_vocab)
    return found if found is not None and len(found.vocabulary) == n_vocab else None


def _completed(tokenizer: Tokenizer, n_vocab: int) -> Tokenizer:
    """Add the special tokens that OpenAI's models of this size have and the files left out."""
    special = special_tokens(n_vocab)
    if not isinstance(tokenizer, BytePairTokenizer) or not special:
        return tokenizer
    old = {name for name in special if name == "<|nospeech|>" and "<|nocaptions|>" in tokenizer.vocabulary}
    try:
        return tokenizer.with_special({name: index for name, index in special.items() if name not in old})
    except ValueError:
        return tokenizer
