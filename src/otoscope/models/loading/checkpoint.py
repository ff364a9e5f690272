"""Opening a checkpoint: configuration, network, weights, tokenizer and what else its folder says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from otoscope.errors import InputError, OtoscopeError
from otoscope.models.dims import Dims
from otoscope.models.families import find_family
from otoscope.models.families.adapter import Config, Family
from otoscope.models.loading.folders import find_folder
from otoscope.models.loading.weights import read_weights, weight_files
from otoscope.models.tokenizer import Tokenizer, find_tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened checkpoint: the network with its weights, and all that its files say about using it."""

    name: str
    family: Family
    dims: Dims
    module: Any
    config: Config
    generation: Mapping[str, Any] = field(default_factory=dict)
    """`generation_config.json`: special tokens and rules of decoding."""
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    """`preprocessor_config.json`: how samples become input."""
    tokenizer: Tokenizer | None = None
    folder: Path | None = None


def open_checkpoint(name: str | os.PathLike[str], dtype: torch.dtype) -> Checkpoint:
    """Load a checkpoint in Hugging Face layout, without the network unless its name is on the Hub.

    Raises:
        InputError: not found, of a family without adapter, or weights that do not fit its configuration.
        OtoscopeError: damaged files, or the Hub cannot be reached.
    """
    label, folder = find_folder(name)
    config = _json(folder / "config.json")
    if not config:
        raise InputError(f"{folder} has no config.json; give the folder of a Hugging Face checkpoint.")
    family = find_family(str(config.get("model_type")))
    weight_files(folder)
    dims, module = build(family, config)
    try:
        load_weights(module, family, read_weights(folder), dtype, str(folder))
        tokenizer = find_tokenizer(folder)
    except (OtoscopeError, MemoryError):
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OtoscopeError(f"The checkpoint in {folder} could not be loaded: {first}") from error
    return Checkpoint(
        label,
        family,
        dims,
        module,
        config,
        _json(folder / "generation_config.json"),
        _json(folder / "preprocessor_config.json"),
        tokenizer,
        folder,
    )


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
    """Put a checkpoint's weights into a network made by `build`.

    Raises:
        InputError: weights are missing, have another shape, or belong to blocks the network does not have.
    """
    wanted = module.state_dict()
    given = family.translate(dict(weights))
    missing = [name for name in wanted if name not in given and not _any(family.optional, name)]
    if missing:
        raise InputError(
            f"The checkpoint in {where} lacks {len(missing)} weights its config asks for, e.g. {missing[0]}."
        )
    wrong = [name for name in wanted if name in given and wanted[name].shape != given[name].shape]
    if wrong:
        shapes = f"{tuple(given[wrong[0]].shape)} instead of {tuple(wanted[wrong[0]].shape)}"
        raise InputError(f"In the checkpoint in {where}, {wrong[0]} has shape {shapes}.")
    strange = [name for name in given if name not in wanted and name.startswith(("encoder.", "decoder."))]
    strange = [name for name in strange if not _any(family.unused, name)]
    if strange:
        raise InputError(f"The checkpoint in {where} has weights its config does not speak of, e.g. {strange[0]}.")
    state = {name: given[name].to(dtype) for name in wanted if name in given}
    module.load_state_dict(state, strict=False, assign=True)
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
