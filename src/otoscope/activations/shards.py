"""One shard: a safetensors file with one tensor `activations` `[frames, d]` in 16-bit floats, read by memory map."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from otoscope.errors import OtoscopeError
from otoscope.storage import atomic_path, sha256_file

KEY = "activations"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_STORED = {"F16": torch.float16, "BF16": torch.bfloat16}
_MAX_HEADER_BYTES = 1 << 20


def shard_name(index: int) -> str:
    """Return the file name of a shard."""
    return f"{index:05d}.safetensors"


def write_shard(path: Path, frames: torch.Tensor) -> dict[str, Any]:
    """Write `frames` `[t, d]` and return what is needed to trust the file later.

    Raises:
        OtoscopeError: the disk is full or the folder cannot be written.
    """
    with atomic_path(path) as temporary:
        data = save({KEY: frames.contiguous()})  # as bytes, so that a full disk is an ordinary OSError
        temporary.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        return {"file": path.name, "n_frames": len(frames), "n_bytes": len(data), "sha256": digest}


def is_whole(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a shard is there with the size it was written with (its content is checked by `verify_shard`)."""
    try:
        return bool(path.stat().st_size == entry["n_bytes"])
    except OSError:
        return False


def verify_shard(path: Path, entry: dict[str, Any]) -> None:
    """Compare a shard with its checksum.

    Raises:
        OtoscopeError: missing, cut or changed; names the file.
    """
    if not path.is_file():
        raise OtoscopeError(f"The shard {path} is missing; harvest again.")
    if not is_whole(path, entry) or sha256_file(path) != entry["sha256"]:
        raise OtoscopeError(
            f"The shard {path} is damaged (its checksum differs); delete {path.parent.parent} and harvest again."
        )


def open_shard(path: Path) -> torch.Tensor:
    """Return the tensor of a shard as a read-only memory map; pages are read when they are used.

    Raises:
        OtoscopeError: missing, or not a shard.
    """
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_HEADER_BYTES:
                raise ValueError("unreasonable header")
            entry = json.loads(file.read(length))[KEY]
        dtype, shape = _STORED[entry["dtype"]], tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        if end - begin != 2 * int(np.prod(shape)):
            raise ValueError("sizes disagree")
        if not end:
            return torch.empty(shape, dtype=dtype)
        # copy-on-write, because torch takes no read-only arrays; nothing writes to it
        raw = np.memmap(path, dtype=np.int16, mode="c", offset=8 + length + begin, shape=shape)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise OtoscopeError(f"The shard {path} is missing or damaged ({error}); harvest again.") from error
    return torch.from_numpy(raw).view(dtype)
