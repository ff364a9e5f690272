"""Files of `torch.save`, read without running anything that is in them.

Such a file is a zip archive: `<root>/data.pkl` says what was saved, `<root>/data/<key>` holds the bytes of each tensor.
The pickle is read by an unpickler that knows a short list of names and gives each of them a meaning of its own, so that
no code of the file, nor any that it names, ever runs. Tensors are read one by one when they are asked for.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otoscope.errors import InputError, OtoscopeError

LARGEST_PICKLE = 16 << 20
"""Bytes of `data.pkl`; the tensors lie outside it, so that real ones take kilobytes."""
_STORAGES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
_ZIP_ERRORS = (zipfile.BadZipFile, OSError, ValueError, LookupError, EOFError, RuntimeError, struct.error)
"""What `zipfile` raises at damaged, encrypted and future archives."""
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _STORAGES.values()}
_NUMPY = {"f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "b1": "?"}
"""Numbers of NumPy, in the letters of `struct`."""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that is still on disk."""

    archive: Archive
    key: str
    dtype: torch.dtype
    n_stored: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        """Refuse to be changed by a pickle, after it was checked."""
        raise InputError("The file sets attributes of a tensor, which torch.save does not.")

    def read(self) -> Tensor:
        """Return the tensor, read from the archive.

        Raises:
            OtoscopeError: its bytes are missing, or fewer than its shape needs.
        """
        held = self.archive.storage(self.key, self.dtype, self.n_stored)
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        if last >= len(held):
            raise self.archive.damaged(f"a tensor of shape {list(self.shape)} has only {len(held)} numbers")
        return held.as_strided(self.shape, self.stride, self.offset).clone()


class Archive:
    """The members of one file of `torch.save`, checked before any is read.

    Raises:
        InputError: it is not such a file, or one whose members are packed or named as those never are.
        OtoscopeError: it is damaged or cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                start = file.read(4)
        except FileNotFoundError:
            raise InputError(f"There is no file {path}.") from None
        if start[:2] != b"PK":
            raise InputError(
                f"{path} is not a file of torch.save as torch writes it since 1.6 (a zip archive); "
                "open it where it came from and save its tensors again."
            )
        try:
            self._zip = zipfile.ZipFile(path)
        except _ZIP_ERRORS as error:
            raise self.damaged("its table of contents is missing") from error
        self._check_members()

    def damaged(self, why: str) -> OtoscopeError:
        """Return the error that says so."""
        return OtoscopeError(f"{self.path} is damaged or cut short ({why}); get the file again.")

    def _check_members(self) -> None:
        members = self._zip.infolist()
        for member in members:
            parts = member.filename.replace("\\", "/").split("/")
            if ".." in parts or "" in parts[:-1] or ":" in parts[0]:
                raise InputError(
                    f"{self.path} has a member named {member.filename!r}, which no file of torch.save has."
                )
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise InputError(
                    f"{self.path} has a compressed member ({member.filename}), which no file of torch.save has: "
                    "it may unpack to any size."
                )
        if sum(member.file_size for member in members) > os.path.getsize(self.path):
            raise InputError(f"{self.path} has members that overlap, which no file of torch.save has.")
        pickles = [member for member in members if member.filename.endswith("/data.pkl")]
        if any("/code/" in f"/{member.filename}" for member in members):
            raise InputError(f"{self.path} is a TorchScript program, not a file of weights.")
        if len(pickles) != 1:
            raise InputError(f"{self.path} has {len(pickles)} members named data.pkl; a file of torch.save has one.")
        if pickles[0].file_size > LARGEST_PICKLE:
            raise InputError(
                f"{self.path} has a data.pkl of {pickles[0].file_size:,} bytes; real ones are far smaller."
            )
        self._root = pickles[0].filename.removesuffix("data.pkl")
        self._sizes = {member.filename: member.file_size for member in members}
        order = self._sizes.get(f"{self._root}byteorder")
        if order is not None and self.read("byteorder") != b"little":
            raise InputError(f"{self.path} was written on a big-endian machine, which is not supported.")

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        try:
            return self._zip.read(self._root + name)
        except _ZIP_ERRORS as error:
            raise self.damaged(f"{name} cannot be read") from error

    def storage(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        """Return the numbers of one storage, flat."""
        size = self._sizes.get(f"{self._root}data/{key}")
        if size is None or size < count * dtype.itemsize:
            raise self.damaged(f"data/{key} should hold {count} numbers")
        if not count:
            return torch.empty(0, dtype=dtype)
        content = np.frombuffer(self.read(f"data/{key}"), np.uint8, count * dtype.itemsize)
        return torch.from_numpy(content.copy()).view(dtype)


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """Return what a file of `torch.save` holds, tensors as `StoredTensor`.

    Known are tensors and parameters, numbers, texts, lists, tuples, sets, dictionaries (ordered ones, too), NumPy's
    numbers, and torch's types, sizes and devices.

    Raises:
        InputError: it is no such file, or holds anything else: whole modules, say.
        OtoscopeError: it is damaged or cut short.
    """
    archive = Archive(Path(path))
    text = archive.read("data.pkl")
    try:
        _check_operations(archive, text)
        return _Reader(archive, text).load()
    except OtoscopeError:
        raise
    except RecursionError:
        raise InputError(f"{path} nests its contents too deeply to be read.") from None
    except Exception as error:
        raise archive.damaged(f"what it holds cannot be read: {error or type(error).__name__}") from error


def read_tensors(held: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a table that `read_torch_file` returned, entries that are no tensors left out.

    Raises:
        InputError: it is no table.
    """
    if not isinstance(held, Mapping):
        raise InputError(f"{path} holds a {type(held).__name__} where a table of weights was expected.")
    return {str(name): value.read() for name, value in held.items() if isinstance(value, StoredTensor)}


def _check_operations(archive: Archive, text: bytes) -> None:
    """Refuse operations that torch.save does not use, and places for what is remembered beyond what could be filled.

    A pickle of ten bytes may otherwise ask for gigabytes.
    """
    for operation, argument, _ in pickletools.genops(text):
        if operation.name in _NEVER:
            raise InputError(f"{archive.path} uses the pickle operation {operation.name}, which torch.save does not.")
        if operation.name.endswith("PUT") and int(argument or 0) > len(text):
            raise archive.damaged(f"it remembers {argument} things")


_NEVER = {"BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER", "EXT1", "EXT2", "EXT4", "INST", "OBJ"}


class _Reader(pickle.Unpickler):
    """An unpickler that looks nothing up: a name has the meaning given here, or the file is refused."""

    def __init__(self, archive: Archive, text: bytes) -> None:
        super().__init__(io.BytesIO(text))
        self.archive = archive

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name means."""
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        known = _KNOWN.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise InputError(
                f"{self.archive.path} holds Python objects ({module}.{name}), which could run code and are not loaded; "
                "where it was made, save the model's state_dict() alone and give that file."
            )
        return known

    def persistent_load(self, pid: Any) -> tuple[Archive, str, torch.dtype, int]:
        """Return a reference to a storage."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(count, int) or count < 0:
            raise InputError(f"{self.archive.path} refers to something that is no tensor ({kind!r}).")
        return self.archive, str(key), dtype, count


def _tensor(
    storage: tuple[Archive, str, torch.dtype, int], offset: int, shape: Any, stride: Any, *_: Any
) -> StoredTensor:
    archive, key, dtype, count = storage
    shape, stride = tuple(shape), tuple(stride)
    if not all(isinstance(number, int) and number >= 0 for number in (offset, *shape, *stride)):
        raise InputError(f"{archive.path} has a tensor of shape {shape} and strides {stride}, which cannot be.")
    if len(shape) != len(stride) or math.prod(shape) > count:
        raise archive.damaged(f"a tensor of shape {list(shape)} is said to have {count} numbers")
    return StoredTensor(archive, key, dtype, count, offset, shape, stride)


class _NumpyDtype:
    """Stands for a `numpy.dtype`: its code, and the byte order that its state names."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1]).replace("|", "<").replace("=", "<")


def _number(dtype: _NumpyDtype, text: bytes) -> float | int | bool:
    if dtype.code not in _NUMPY or dtype.order not in "<>":
        raise InputError(f"There is a NumPy number of type {dtype.code!r} in the file, which is not supported.")
    (value,) = struct.unpack(dtype.order + _NUMPY[dtype.code], text)
    return value  # type: ignore[no-any-return]


def _encoded(text: str, encoding: str) -> bytes:
    """Protocol 2 writes bytes as a text in latin-1."""
    if encoding != "latin1":
        raise InputError(f"The file encodes bytes as {encoding!r}, which torch.save does not.")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy", "dtype"): _NumpyDtype,
    ("_codecs", "encode"): _encoded,
    ("torch", "Size"): tuple,
    ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}
"""What the names in a file mean here; none leads to code that the file chooses."""
