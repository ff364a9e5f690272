"""One shard: a safetensors file with one tensor `activations` `[frames, d]` in 16-bit floats.

It is written frame by frame and read by memory map, so that neither holds it in memory.
"""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from otoscope.activations.statistics import SiteStatistics
from otoscope.errors import OtoscopeError
from otoscope.storage import atomic_path, plain_os_errors, sha256_file

KEY = "activations"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_STORED = {"F16": torch.float16, "BF16": torch.bfloat16}
_NAMES = {dtype: name for name, dtype in _STORED.items()}
_MAX_HEADER_BYTES = 1 << 20
_HEADER_BYTES = 256  # room for the header, which is known last; padded with spaces as the format allows


def shard_name(index: int) -> str:
    """Return the file name of a shard."""
    return f"{index:05d}.safetensors"


class ShardWriter:
    """A shard in the making; it exists under its name once `finish` has been called, and never in part.

    Raises:
        OtoscopeError: the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path, d: int, dtype: torch.dtype) -> None:
        self._path, self._d, self._dtype = path, d, dtype
        self._held = contextlib.ExitStack()
        self._temporary = self._held.enter_context(atomic_path(path))
        self._file = self._held.enter_context(open(self._temporary, "wb", buffering=0))  # noqa: SIM115
        self._file.seek(_HEADER_BYTES)
        self.statistics = SiteStatistics.of(torch.empty(0, d))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was written of a shard that is not finished."""
        if kind is not None:
            self._held.__exit__(kind, error, trace)

    def add(self, frames: torch.Tensor) -> None:
        """Append `frames` `[t, d]` of the shard's type."""
        self.statistics += SiteStatistics.of(frames)
        left = frames.contiguous().view(torch.int16).numpy().data.cast("B")
        with plain_os_errors(self._path):
            while left:
                left = left[self._file.write(left) :]

    def finish(self) -> dict[str, Any]:
        """Give the file its name; return what is needed to trust it later."""
        n_frames = self.statistics.n_frames
        n_bytes = n_frames * self._d * self._dtype.itemsize
        entry = {"dtype": _NAMES[self._dtype], "shape": [n_frames, self._d], "data_offsets": [0, n_bytes]}
        header = json.dumps({KEY: entry}, separators=(",", ":")).encode().ljust(_HEADER_BYTES - 8)
        with plain_os_errors(self._path):
            self._file.seek(0)
            self._file.write(struct.pack("<Q", len(header)) + header)
            digest = sha256_file(self._temporary)
        self._held.close()
        return {"file": self._path.name, "n_frames": n_frames, "n_bytes": _HEADER_BYTES + n_bytes, "sha256": digest}


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
