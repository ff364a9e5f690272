"""Opening a checkpoint: configuration, network, weights, tokenizer and what else its folder says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from otoscope.errors import InputError, OtoscopeError
from otoscope.models.dims import Dims
from otoscope.models.families import find_family
from otoscope.models.families.adapter import Config, Family
from otoscope.models.families.whisper import openai_name
from otoscope.models.loading.folders import find_checkpoint
from otoscope.models.loading.foreign import foreign_folder
from otoscope.models.loading.openai_file import read_openai
from otoscope.models.loading.released import heads_of_released_model, last_half
from otoscope.models.loading.text import Text, text_of_file, text_of_folder
from otoscope.models.loading.weights import hash_checkpoint, hash_tensors, read_weights, weight_files
from otoscope.models.text.tokenizer import Tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened checkpoint: the network with its weights, and all that its files say about using it."""

    name: str
    family: Family
    dims: Dims
    module: Any
    config: Config
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    """`preprocessor_config.json`: how samples become input."""
    path: Path | None = None
    """The folder or `.pt` file that holds the weights; None for weights made here."""
    text: Callable[[], Text] = Text
    """Open the tokenizer and rules of decoding; they take time, and most calls need neither."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What turns text into tokens and back; None where none can be found."""
        return self.text().tokenizer

    @property
    def generation(self) -> Mapping[str, Any]:
        """Special tokens and rules of decoding, in the words of a `generation_config.json`."""
        return self.text().generation

    @property
    def folder(self) -> Path | None:
        """The folder of a Hugging Face checkpoint."""
        return self.path if self.path is not None and self.path.is_dir() else None

    def weights_hash(self) -> str:
        """Return the SHA-256 of the weights as stored."""
        if self.path is not None:
            return hash_checkpoint(self.path)
        return hash_tensors(sorted(self.module.state_dict().items()))


def open_checkpoint(
    name: str | os.PathLike[str], dtype: torch.dtype, tokenizer: str | os.PathLike[str] | None = None
) -> Checkpoint:
    """Load a Hugging Face checkpoint or a `.pt` file of openai-whisper, without the network unless its name is on the
    Hub. `tokenizer` names one to use instead of its own (see `text.open_tokenizer`).

    Raises:
        InputError: not found, of a family without adapter, or weights that do not fit its configuration.
        OtoscopeError: damaged files, or the Hub cannot be reached.
    """
    chosen = None if tokenizer is None else os.fspath(tokenizer)
    return _open(*find_checkpoint(name), dtype, chosen)


def describe_checkpoint(name: str | os.PathLike[str]) -> Checkpoint:
    """Open a checkpoint for its facts alone: its weights are not read (nor downloaded), so its network cannot run.

    Raises:
        InputError: not found, or of a family without adapter.
        OtoscopeError: damaged files, or the Hub cannot be reached.
    """
    return _open(*find_checkpoint(name, weights=False), None, None)


def _open(label: str, path: Path, dtype: torch.dtype | None, chosen: str | None) -> Checkpoint:
    try:
        return (_open_file if path.is_file() else _open_folder)(label, path, dtype, chosen)
    except (OtoscopeError, MemoryError):
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OtoscopeError(f"The checkpoint in {path} could not be loaded: {first}") from error


def _open_folder(label: str, folder: Path, dtype: torch.dtype | None, chosen: str | None) -> Checkpoint:
    """Open a checkpoint in Hugging Face layout."""
    config = _json(folder / "config.json")
    foreign = None if "model_type" in config else foreign_folder(folder)
    if foreign or not config:
        raise InputError(foreign or f"{folder} has no config.json; give the folder of a Hugging Face checkpoint.")
    family = find_family(str(config.get("model_type")))
    if dtype is not None:
        weight_files(folder)  # what is missing is named before anything else is done
    dims, module = build(family, config)
    generation = _json(folder / "generation_config.json")
    preprocessor = _json(folder / "preprocessor_config.json")
    if dtype is not None:
        load_weights(module, family, read_weights(folder), dtype, str(folder))
    text = cache(lambda: text_of_folder(folder, dims, generation, chosen))
    return Checkpoint(label, family, dims, module, config, preprocessor, folder, text)


def _open_file(label: str, path: Path, dtype: torch.dtype | None, chosen: str | None) -> Checkpoint:
    """Open a `.pt` file of openai-whisper."""
    config, state = read_openai(path)
    family = find_family("whisper")
    dims, module = build(family, config)
    if dtype is not None:
        weights = ((openai_name(name), value.clone()) for name, value in state.items())
        load_weights(module, family, weights, dtype, str(path))
    heads = heads_of_released_model(label, dims.n_decoder_layers, dims.n_decoder_heads)
    generation = {"alignment_heads": heads or last_half(dims.n_decoder_layers, dims.n_decoder_heads)}
    generation |= _rules_beside(path, dims)
    text = cache(lambda: text_of_file(path, dims, generation, chosen))
    return Checkpoint(label, family, dims, module, config, {}, path, text)


def _rules_beside(path: Path, dims: Dims) -> dict[str, Any]:
    """The `generation_config.json` in the folder of a `.pt` file, if the `config.json` there is of such a model."""
    config = _json(path.parent / "config.json")
    try:
        fits = config.get("model_type") == "whisper" and find_family("whisper").dims(config) == dims
    except (KeyError, TypeError):
        fits = False
    return _json(path.parent / "generation_config.json") if fits else {}


def build(family: Family, config: Config) -> tuple[Dims, nn.Module]:
    """Return the sizes and the network of a configuration, its weights still without memory.

    Raises:
        InputError: the configuration lacks a setting, or has one that is not understood.
    """
    try:
        dims = family.dims(config)
        with torch.device("meta"):
            module = family.build(config, dims)
    except KeyError as error:
        raise InputError(f"The {family.name} configuration has no usable setting {error}.") from error
    return dims, module.eval().requires_grad_(False)


def load_weights(
    module: nn.Module, family: Family, weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype, where: str
) -> None:
    """Put a checkpoint's weights, one after another, into a network made by `build`.

    Raises:
        InputError: weights are missing, quantised, of another shape, or of blocks the network does not have.
    """
    wanted = module.state_dict()
    state: dict[str, Tensor] = {}
    left: dict[str, Tensor] = {}
    stored: dict[str, str] = {}
    for theirs, value in weights:
        name = family.rename(theirs)
        stored[name] = theirs
        if name in wanted and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise InputError(
                f"The checkpoint in {where} is quantised ({theirs} is stored as {kind}); give the one it was made from."
            )
        if name in wanted and wanted[name].shape == value.shape:
            state[name] = value.to(dtype)
        else:
            left[name] = value
    left = family.converted(left)
    for name, value in left.items():
        if name in wanted and wanted[name].shape == value.shape:
            state[name] = value.to(dtype)
        elif name in wanted:
            shapes = f"{tuple(value.shape)} instead of {tuple(wanted[name].shape)}"
            raise InputError(f"In the checkpoint in {where}, {stored.get(name, name)} has shape {shapes}.")
    missing = [name for name in wanted if name not in state]
    if missing:
        what = f"{len(missing)} of {len(wanted)} weights" if len(missing) > 1 else "a weight"
        raise InputError(f"The checkpoint in {where} lacks {what} that its sizes ask for, e.g. {missing[0]}.")
    strange = [name for name in left if name not in wanted and name.startswith(("encoder.", "decoder."))]
    strange = [name for name in strange if not _any(family.unused, name)]
    if strange:
        example = stored.get(strange[0], strange[0])
        raise InputError(f"The checkpoint in {where} has weights that its sizes do not speak of, e.g. {example}.")
    module.load_state_dict(state, strict=False, assign=True)
    family.finish(module, left)
    module.requires_grad_(False)


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a file that is not there counts as empty."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise OtoscopeError(f"{path} is damaged and cannot be read ({error}).") from error
    if not isinstance(value, dict):
        raise OtoscopeError(f"{path} is damaged: it holds no JSON object.")
    return value
