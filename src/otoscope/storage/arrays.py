"""Named arrays in one file (safetensors), mapped into memory and checked block by block when first touched."""

from __future__ import annotations

import itertools
import json
import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import xxhash

from otoscope.errors import OtoscopeError

BLOCK_BYTES = 1 << 16
"""Checksums cover this many bytes each: small enough to check on every first touch, 8 bytes per 64 KiB of data."""
MAX_HEADER_BYTES = 1 << 24
HELD_BYTES = 1 << 20
"""Of an array that grows, so much is held in memory."""

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_TYPES = {name: np.dtype(code) for name, code in _DTYPES.items()}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}

_Placed = tuple[npt.NDArray[Any], int, int, int]
"""An array of a file: all of it (not checked), its first byte, the bytes of a row, the number of rows."""


class DamagedError(OtoscopeError):
    """A file is not as it was written. `path` names it, `what` says how, `start`, `stop` the bytes (−1: unknown)."""

    def __init__(self, path: Path, what: str, start: int = -1, stop: int = -1) -> None:
        where = f" (bytes {start:,} to {stop:,})" if start >= 0 else ""
        super().__init__(f"{path} is damaged: {what}{where}; `otoscope doctor` finds and repairs what it can.")
        self.path, self.what, self.start, self.stop = path, what, start, stop


class Growing:
    """An array that grows by rows, in memory while it is small and then in a scratch file.

    Rows are not copied: who appends them does not change them afterwards. The file has no name that would outlive the
    process. An array that begins anew writes over it: pages that the system holds already cost far less than new ones.

    Args:
        folder: the file lies on the same disk.
        row_shape: shape of a row.
    """

    def __init__(self, folder: Path, dtype: npt.DTypeLike, row_shape: tuple[int, ...] = ()) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.row_shape = row_shape
        self.n_rows = 0
        self._row_bytes = self.dtype.itemsize * math.prod(row_shape)
        self._held: list[npt.NDArray[Any]] = []
        self._n_filed = 0
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self.close = weakref.finalize(self, self._file.close)
        """Let go of the file; so does whoever forgets the array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return (self.n_rows, *self.row_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self.n_rows * self._row_bytes

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add rows at the end."""
        if rows.shape[1:] != self.row_shape:
            raise ValueError(f"rows of shape {rows.shape[1:]} do not fit to those of {self.row_shape}")
        self._held.append(np.ascontiguousarray(rows, dtype=self.dtype))
        self.n_rows += len(rows)
        if self.nbytes - self._n_filed > HELD_BYTES:
            self._file.seek(self._n_filed)
            for each in self._held:
                left = each.reshape(-1).view(np.uint8).data
                while left:
                    left = left[self._file.write(left) :]
            self._n_filed = self.nbytes
            self._held.clear()

    def clear(self) -> None:
        """Begin anew, with no rows."""
        self.n_rows = self._n_filed = 0
        self._held.clear()

    def tofile(self, file: BinaryIO) -> None:
        """Write the bytes of the array to a file."""
        self._file.seek(0)
        piece = memoryview(bytearray(min(self._n_filed, 4 * BLOCK_BYTES)))
        left = self._n_filed
        while left:
            n = self._file.readinto(piece[: min(left, len(piece))])
            if not n:
                raise OSError("a scratch file lost its end")
            file.write(piece[:n])
            left -= n
        for each in self._held:
            each.tofile(file)


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any] | Growing]) -> None:
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
            if isinstance(array, np.ndarray):
                array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            array.tofile(file)


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
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                self._map = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
            finally:
                os.close(handle)
        except (OSError, ValueError) as error:
            raise DamagedError(path, f"it cannot be opened ({error})") from error
        self._bytes = memoryview(self._map)
        self._checks = checks
        size = len(self._bytes)
        if (n_bytes is not None and size != n_bytes) or (checks is not None and len(checks) != -(-size // BLOCK_BYTES)):
            raise DamagedError(path, f"it has {size:,} bytes, not as many as were written")
        self._good = bytearray(0 if checks is None else len(checks))
        self.damaged = False
        """Whether damage was found; a repaired file is another one, and has to be opened."""
        self._arrays = self._read_header()

    def _read_header(self) -> dict[str, _Placed]:
        if len(self._bytes) < 8:
            raise DamagedError(self.path, "it is cut short")
        self._check(0, 1)
        length = int.from_bytes(self._bytes[:8], "little")
        if length > min(MAX_HEADER_BYTES, len(self._bytes) - 8):
            raise DamagedError(self.path, "its header is cut short")
        self._check(0, -(-(8 + length) // BLOCK_BYTES))
        try:
            header = json.loads(self._bytes[8 : 8 + length].tobytes())
            return {
                name: _placed(name, entry, self._map, 8 + length)
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
        return self._entry(name)[0].shape

    def span(self, name: str) -> tuple[int, int]:
        """First byte of an array in the file, and the one after its last."""
        whole, first, _, _ = self._entry(name)
        return first, first + whole.nbytes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Return rows `start:stop` of an array: a read-only view of the file, no copy.

        Raises:
            DamagedError: a block that holds some of them differs from its checksum, or there is no such array.
        """
        whole, offset, row, n_rows = self._arrays.get(name) or self._entry(name)
        if stop is None:
            stop = n_rows
        if not 0 <= start < stop <= n_rows:
            stop = max(0, min(stop, n_rows))
            start = min(max(start, 0), stop)
        first, last = (offset + start * row) // BLOCK_BYTES, (offset + stop * row - 1) // BLOCK_BYTES + 1
        if start < stop and self._good.find(0, first, last) >= 0:
            self._check(first, last)
        return whole[start:stop]

    def release(self) -> None:
        """Let the system take back the memory of what was read; it comes back from disk, and is checked again, when it
        is next asked for."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._good = bytearray(len(self._good))

    def _entry(self, name: str) -> _Placed:
        if name not in self._arrays:
            raise DamagedError(self.path, f"it has no array {name!r} (it has {', '.join(self._arrays)})")
        return self._arrays[name]

    def _check(self, first: int, last: int) -> None:
        """Compare blocks `first:last` that nobody has looked at yet with their checksums."""
        good, checks = self._good, self._checks
        if checks is None:
            return
        at = good.find(0, first, last)
        while at >= 0:
            block = self._bytes[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]
            if xxhash.xxh3_64_intdigest(block) != checks.item(at):
                self.damaged = True
                raise DamagedError(self.path, "its contents changed", at * BLOCK_BYTES, at * BLOCK_BYTES + len(block))
            good[at] = 1
            at = good.find(0, at + 1, last)


def _placed(name: str, entry: dict[str, Any], data: mmap.mmap, first: int) -> _Placed:
    """The array whose header entry says `entry`, in a file whose arrays begin at byte `first`."""
    dtype, shape, (start, stop) = _TYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    for n in (*shape, start, stop):
        if not isinstance(n, int) or n < 0:
            raise ValueError(f"array {name!r} has an impossible shape or place")
    row = dtype.itemsize * math.prod(shape[1:])
    if not shape or stop - start != shape[0] * row or first + stop > len(data):
        raise ValueError(f"array {name!r} does not fit")
    return np.ndarray(shape, dtype, data, first + start), first + start, row, shape[0]


def pack_strings(texts: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Return texts as two arrays: `offsets [n + 1]` into `utf8 [bytes]`."""
    encoded = [text.encode() for text in texts]
    offsets = np.concatenate(([0], np.cumsum([len(each) for each in encoded], dtype=np.int64))).astype(np.int64)
    return {"offsets": offsets, "utf8": np.frombuffer(b"".join(encoded), dtype=np.uint8)}


class Strings:
    """Texts of an `ArrayFile` under `<name>.offsets` and `<name>.utf8`, decoded one at a time."""

    def __init__(self, file: ArrayFile, name: str) -> None:
        self._file, self._offsets, self._utf8 = file, f"{name}.offsets", f"{name}.utf8"

    def __len__(self) -> int:
        return self._file.shape(self._offsets)[0] - 1

    def __getitem__(self, index: int) -> str:
        start, stop = self._file.read(self._offsets, index, index + 2).tolist()
        return self._file.read(self._utf8, start, stop).tobytes().decode()

    def all(self) -> list[str]:
        """Return all texts."""
        offsets = self._file.read(self._offsets).tolist()
        data = self._file.read(self._utf8).tobytes()
        if data.isascii():  # bytes are characters then, and one decoding serves all
            text = data.decode()
            return [text[a:b] for a, b in itertools.pairwise(offsets)]
        return [data[a:b].decode() for a, b in itertools.pairwise(offsets)]
