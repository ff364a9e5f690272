"""Architectures by name: each file of this folder adds its own row, so adding one touches one file."""

from __future__ import annotations

from typing import TypeVar

from otoscope.dictionaries.dictionary import Dictionary
from otoscope.errors import OtoscopeError, nearest

_KINDS: dict[str, type[Dictionary]] = {}
D = TypeVar("D", bound=Dictionary)


def register(cls: type[D]) -> type[D]:
    """Make a dictionary class known under its `kind`, for loading."""
    _KINDS[cls.kind] = cls
    return cls


def dictionary_class(kind: object, where: str) -> type[Dictionary]:
    """Return the class that reads the architecture named in the file `where`.

    Raises:
        OtoscopeError: no such architecture here.
    """
    found = _KINDS.get(kind) if isinstance(kind, str) else None
    if found is None:
        known = ", ".join(sorted(_KINDS))
        raise OtoscopeError(
            f"{where} holds a dictionary of architecture {kind!r}, which cannot be read here; "
            f"known are {known}{nearest(str(kind), _KINDS)}"
        )
    return found
