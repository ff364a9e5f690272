"""Attributes of clips in little memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Attributes(Mapping[str, str]):
    """Read-only attributes, equal to any mapping of the same names to the same values.

    Args:
        names: each once.
        values: as many.
    """

    __slots__ = ("_names", "_values")

    def __init__(self, names: tuple[str, ...], values: tuple[str, ...]) -> None:
        self._names, self._values = names, values

    def __getitem__(self, name: str) -> str:
        for own, value in zip(self._names, self._values, strict=True):
            if own == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Attributes, (self._names, self._values)
