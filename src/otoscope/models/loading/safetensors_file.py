"""Reading a `.safetensors` file straight into memory of our own.

The `safetensors` package maps the file instead: the model then changes, or dies of a bus error, when the file is
written over while it is in use, and every page read counts as memory on top of the converted weights.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from otoscope.errors import InputError, OtoscopeError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors package


class SafetensorsFile:
    """The tensors of one file: eight bytes of header length, a JSON header, then the numbers.

    Raises:
        InputError: numbers of a type that no model here computes in.
        OtoscopeError: the file is damaged or cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > _LARGEST_HEADER:
                    raise ValueError("its header cannot be that long")
                self._header: dict[str, dict[str, Any]] = json.loads(file.read(length))
                self._header.pop("__metadata__", None)
                self._start = 8 + length
                self._check(file.seek(0, 2) - self._start)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OtoscopeError(f"{path} is damaged or cut short ({error}); get the file again.") from error

    def _check(self, n_bytes: int) -> None:
        for name, entry in self._header.items():
            first, stop = entry["data_offsets"]
            size = math.prod(entry["shape"]) * self._dtype(name).itemsize
            if not 0 <= first <= stop <= n_bytes or stop - first != size:
                raise ValueError(f"the numbers of {name} are not all there")

    def _dtype(self, name: str) -> torch.dtype:
        stored = self._header[name]["dtype"]
        if stored not in _DTYPES:
            raise InputError(f"{self.path} stores {name} as {stored}; give a checkpoint of 16 or 32 bits.")
        return _DTYPES[stored]

    def names(self) -> list[str]:
        """The names of the tensors, in the order in which they lie in the file."""
        return sorted(self._header, key=lambda name: (self._header[name]["data_offsets"], name))

    def read(self, name: str) -> Tensor:
        """Return one tensor as stored."""
        entry = self._header[name]
        tensor = torch.empty(entry["shape"], dtype=self._dtype(name))
        if tensor.numel():
            with open(self.path, "rb") as file:
                file.seek(self._start + entry["data_offsets"][0])
                if file.readinto(tensor.view(-1).view(torch.uint8).numpy().data) != tensor.nbytes:
                    raise OtoscopeError(f"{self.path} is cut short; get the file again.")
        return tensor
