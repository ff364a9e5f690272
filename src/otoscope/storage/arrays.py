"""Named arrays in one file (safetensors), mapped into memory and checked block by block when first touched."""

from __future__ import annotations

import itertools
import json
import math
import mmap
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from otoscope.errors import OtoscopeError

BLOCK_BYTES = 1 << 16
"""Checksums cover this many bytes each: small enough to check on every first touch, 8 bytes per 64 KiB of data."""
MAX_HEADER_BYTES = 1 << 24

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


class DamagedError(OtoscopeError):
    """A file is not as it was written. `path` names it, `what` says how, `start`, `stop` the bytes (−1: unknown)."""

    def __init__(self, path: Path, what: str, start: int = -1, stop: int = -1) -> None:
        where = f" (bytes {start:,} to {stop:,})" if start >= 0 else ""
        super().__init__(f"{path} is damaged: {what}{where}; `otoscope doctor` finds and repairs what it can.")
        self.path, self.what, self.start, self.stop = path, what, start, stop


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays as one safetensors file; the same arrays give the same bytes.

    Wide types come first, so that every array is aligned to its type when mapped.
    """
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {}
    at = 0
    for name, array in ordered:
        size = array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("<")],
            "shape": list(array.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, array in ordered:
            np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tofile(file)


def block_checks(path: Path) -> npt.NDArray[np.uint64]:
    """Return the XXH3 checksum of every `BLOCK_BYTES` of a file, `[ceil(bytes / BLOCK_BYTES)]`.

    Raises:
        DamagedError: the file cannot be read.
    """
    found = []
    try:
        with open(path, "rb", buffering=BLOCK_BYTES) as file:
            while block := file.read(BLOCK_BYTES):
                found.append(xxhash.xxh3_64_intdigest(block))
    except OSError as error:
        raise DamagedError(path, f"it cannot be read ({error.strerror or error})") from error
    return np.array(found, dtype=np.uint64)


def damaged_blocks(path: Path, checks: npt.NDArray[np.uint64]) -> Iterable[tuple[int, int]]:
    """Yield `(first, stop)` byte ranges of a file that differ from their checksums."""
    found = block_checks(path)
    size = os.path.getsize(path)
    for i in range(max(len(found), len(checks))):
        if i >= len(found) or i >= len(checks) or found[i] != checks[i]:
            yield i * BLOCK_BYTES, min(size, (i + 1) * BLOCK_BYTES)


class ArrayFile:
    """The arrays of one file. Nothing is read until asked for, and nothing is returned unchecked.

    Args:
        path: a safetensors file.
        checks: `block_checks` of the file as it was written; None for scratch files, which nobody checks.
        n_bytes: its size as it was written, where that is known.

    Raises:
        DamagedError: the file is missing, cut short, or its header is not what was written.
    """

    def __init__(self, path: Path, checks: npt.NDArray[np.uint64] | None = None, n_bytes: int | None = None) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DamagedError(path, f"it cannot be opened ({error})") from error
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)
        self._checks = checks
        size = len(self._bytes)
        if (n_bytes is not None and size != n_bytes) or (checks is not None and len(checks) != -(-size // BLOCK_BYTES)):
            raise DamagedError(path, f"it has {size:,} bytes, not as many as were written")
        self._good = bytearray(0 if checks is None else len(checks))
        self.damaged = False
        """Whether damage was found; a repaired file is another one, and has to be opened."""
        self._arrays = self._read_header()

    def _read_header(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...], int]]:
        if len(self._bytes) < 8:
            raise DamagedError(self.path, "it is cut short")
        self._check(0, 8)
        length = int.from_bytes(self._bytes[:8].tobytes(), "little")
        if length > min(MAX_HEADER_BYTES, len(self._bytes) - 8):
            raise DamagedError(self.path, "its header is cut short")
        self._check(8, 8 + length)
        try:
            header = json.loads(self._bytes[8 : 8 + length].tobytes())
            return {
                name: _placed(name, entry, 8 + length, len(self._bytes))
                for name, entry in header.items()
                if name != "__metadata__"
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedError(self.path, f"its header cannot be understood ({error})") from error

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return list(self._arrays)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array."""
        return self._entry(name)[1]

    def span(self, name: str) -> tuple[int, int]:
        """First byte of an array in the file, and the one after its last."""
        dtype, shape, first = self._entry(name)
        return first, first + dtype.itemsize * math.prod(shape)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Return rows `start:stop` of an array: a read-only view of the file, no copy.

        Raises:
            DamagedError: a block that holds some of them differs from its checksum, or there is no such array.
        """
        dtype, shape, offset = self._entry(name)
        stop = shape[0] if stop is None else max(0, min(stop, shape[0]))
        start = min(max(start, 0), stop)
        row = dtype.itemsize * math.prod(shape[1:])
        first, last = offset + start * row, offset + stop * row
        self._check(first, last)
        return self._bytes[first:last].view(dtype).reshape(stop - start, *shape[1:])

    def release(self) -> None:
        """Let the system take back the memory of what was read; it comes back from disk, and is checked again, when it
        is next asked for."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._good = bytearray(len(self._good))

    def _entry(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...], int]:
        if name not in self._arrays:
            raise DamagedError(self.path, f"it has no array {name!r} (it has {', '.join(self._arrays)})")
        return self._arrays[name]

    def _check(self, start: int, stop: int) -> None:
        if self._checks is None or stop <= start:
            return
        good, last = self._good, (stop - 1) // BLOCK_BYTES + 1
        at = good.find(0, start // BLOCK_BYTES, last)
        while at >= 0:
            block = self._bytes[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]
            if xxhash.xxh3_64_intdigest(block.data) != int(self._checks[at]):
                self.damaged = True
                raise DamagedError(self.path, "its contents changed", at * BLOCK_BYTES, at * BLOCK_BYTES + len(block))
            good[at] = 1
            at = good.find(0, at + 1, last)


def _placed(name: str, entry: dict[str, Any], first: int, size: int) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Type, shape and first byte of an array whose header entry says `entry`, in a file of `size` bytes."""
    dtype, shape, (start, stop) = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"]), entry["data_offsets"]
    if not shape or not all(isinstance(n, int) and n >= 0 for n in (*shape, start, stop)):
        raise ValueError(f"array {name!r} has an impossible shape or place")
    if stop - start != dtype.itemsize * math.prod(shape) or first + stop > size:
        raise ValueError(f"array {name!r} does not fit")
    return dtype, shape, first + start


def pack_strings(texts: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Return texts as two arrays: `offsets [n + 1]` into `utf8 [bytes]`."""
    encoded = [text.encode() for text in texts]
    offsets = np.concatenate(([0], np.cumsum([len(each) for each in encoded], dtype=np.int64))).astype(np.int64)
    return {"offsets": offsets, "utf8": np.frombuffer(b"".join(encoded), dtype=np.uint8)}


class Strings:
    """Texts of an `ArrayFile` under `<name>.offsets` and `<name>.utf8`, decoded one at a time."""

    def __init__(self, file: ArrayFile, name: str) -> None:
        self._file, self._name = file, name

    def __len__(self) -> int:
        return self._file.shape(f"{self._name}.offsets")[0] - 1

    def __getitem__(self, index: int) -> str:
        start, stop = self._file.read(f"{self._name}.offsets", index, index + 2).tolist()
        return self._file.read(f"{self._name}.utf8", start, stop).tobytes().decode()

    def all(self) -> list[str]:
        """Return all texts."""
        offsets = self._file.read(f"{self._name}.offsets").tolist()
        data = self._file.read(f"{self._name}.utf8").tobytes()
        return [data[a:b].decode() for a, b in itertools.pairwise(offsets)]
