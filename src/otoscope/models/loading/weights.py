"""The weights of a checkpoint as they lie in its files: reading and hashing them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from otoscope.errors import InputError


def read_weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield `(name, tensor)` of a checkpoint as stored; tensors are read from the disk one by one.

    Raises:
        InputError: the folder holds no weights.
    """
    for path in weight_files(folder):
        if path.suffix == ".bin":
            yield from torch.load(path, map_location="cpu", weights_only=True).items()
            continue
        with safe_open(path, "pt") as shard:
            for name in shard.keys():  # noqa: SIM118 (not a dict)
                yield name, shard.get_tensor(name)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: one, or the shards named by an index; safetensors before `.bin`."""
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        whole, index = folder / f"{stem}{suffix}", folder / f"{stem}{suffix}.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            return [folder / shard for shard in sorted(shards)]
    raise InputError(f"{folder} has no model.safetensors and no pytorch_model.bin; the weights are missing.")


def hash_checkpoint(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint's tensors as stored, in order of their names, however they are sharded."""
    paths = weight_files(folder)
    if paths[0].suffix == ".bin":
        state: dict[str, Tensor] = {}
        for path in paths:
            state.update(torch.load(path, map_location="cpu", weights_only=True))
        return hash_tensors(sorted(state.items()))
    with contextlib.ExitStack() as stack:
        shards = [stack.enter_context(safe_open(path, "pt")) for path in paths]
        home = {name: shard for shard in shards for name in shard.keys()}  # noqa: SIM118 (not a dict)
        return hash_tensors((name, home[name].get_tensor(name)) for name in sorted(home))


def hash_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of tensors, in the order given."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().cpu().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
