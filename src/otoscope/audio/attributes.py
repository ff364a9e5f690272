"""Attributes of clips in little memory: their names are shared, and equal ones are held once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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


class SharedAttributes:
    """Makes attributes for many clips; what two of them have in common is held once."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._made: dict[tuple[tuple[str, ...], tuple[str, ...]], Attributes] = {}

    def of(self, pairs: Iterable[tuple[str, str]]) -> Attributes:
        """Return the attributes of these names and values; of a name given twice the last value counts."""
        given = dict(pairs)
        names, values = tuple(given), tuple(given.values())
        names = self._names.setdefault(names, names)
        made = self._made.get((names, values))
        if made is None:
            made = self._made[names, values] = Attributes(names, values)
        return made
