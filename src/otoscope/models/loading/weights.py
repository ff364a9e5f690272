"""The weights of a checkpoint as they lie in its files: reading and hashing them, one tensor at a time."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from otoscope.errors import InputError, OtoscopeError
from otoscope.models.loading.foreign import foreign_folder
from otoscope.models.loading.safetensors_file import SafetensorsFile

OPENAI_KEYS = ("dims", "model_state_dict")
"""What the `.pt` files of openai-whisper hold."""


def read_weights(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield `(name, tensor)` of a checkpoint folder or `.pt` file as stored; tensors are read one by one.

    Raises:
        InputError: no weights there, or a file of something else.
        OtoscopeError: a damaged file.
    """
    for file in weight_files(path):
        if file.suffix == ".safetensors":
            shard = SafetensorsFile(file)
            for name in shard.names():
                yield name, shard.read(name)
        else:
            for name, tensor in _tensors_of(file).items():
                yield name, tensor.clone()  # what the file maps would change with the file


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights: one, or the shards named by an index; safetensors before `.bin`.

    Raises:
        InputError: there are none.
        OtoscopeError: the index is damaged, or a shard that it names is missing.
    """
    if path.is_file():
        return [path]
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        whole, index = path / f"{stem}{suffix}", path / f"{stem}{suffix}.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            return _shards(index)
    raise InputError(
        foreign_folder(path) or f"{path} has no model.safetensors and no pytorch_model.bin; the weights are missing."
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OtoscopeError(f"{index} is damaged and cannot be read ({error}).") from error
    shards = [index.parent / Path(name).name for name in names]
    for shard in shards:
        if not shard.is_file():
            raise OtoscopeError(f"{index} names {shard.name}, but the file is missing; download the checkpoint again.")
    return shards


def load_without_code(path: Path) -> Any:
    """Read a file of `torch.save` that may hold tensors and plain values only; nothing in it is ever run.

    Raises:
        InputError: it holds other Python objects, or is not a file of `torch.save`.
        OtoscopeError: it is damaged or cut short.
    """
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "_use_new_zipfile_serialization" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # written before torch 1.6
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise InputError(f"{path} is not a file of weights that torch can read without running code.") from error
        raise InputError(
            f"{path} holds Python objects ({named[1]}), which could run code and are not loaded; "
            "save its tensors alone and give that file."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        if "TorchScript" in str(error):
            raise InputError(f"{path} is a TorchScript program, not a file of weights.") from error
        raise OtoscopeError(f"{path} is damaged or cut short and cannot be read; get the file again.") from error


def _tensors_of(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a `.bin` or `.pt` file by name."""
    held = load_without_code(path)
    if isinstance(held, Mapping) and all(key in held for key in OPENAI_KEYS):
        held = held["model_state_dict"]
    if not isinstance(held, Mapping) or not all(isinstance(value, Tensor) for value in held.values()):
        raise InputError(f"{path} holds no table of tensors.")
    return held


def hash_checkpoint(path: Path) -> str:
    """Return the SHA-256 of a checkpoint's tensors as stored, in order of their names, however they are sharded."""
    files = weight_files(path)
    if files[0].suffix != ".safetensors":
        state: dict[str, Tensor] = {}
        for file in files:
            state.update(_tensors_of(file))
        return hash_tensors(sorted(state.items()))
    shards = [SafetensorsFile(file) for file in files]
    home = {name: shard for shard in shards for name in shard.names()}
    return hash_tensors((name, home[name].read(name)) for name in sorted(home))


def hash_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of tensors, in the order given."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().cpu().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
