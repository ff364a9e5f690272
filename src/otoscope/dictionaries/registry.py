"""Architectures by name: each file adds its own row, so adding one touches one file."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from otoscope.dictionaries.dictionary import Dictionary
from otoscope.errors import InputError, OtoscopeError, nearest

if TYPE_CHECKING:
    from otoscope.dictionaries.training.learner import Spec

_KINDS: dict[str, type[Dictionary]] = {}
_SPECS: dict[str, type[Spec]] = {}
D = TypeVar("D", bound=Dictionary)
S = TypeVar("S", bound="type[Spec]")


def register(cls: type[D]) -> type[D]:
    """Make a dictionary class known under its `kind`, for loading."""
    _KINDS[cls.kind] = cls
    return cls


def trainable(cls: S) -> S:
    """Make an architecture known under its `kind`, for the command line and config files."""
    _SPECS[cls.kind] = cls
    return cls


def dictionary_class(kind: object, where: str) -> type[Dictionary]:
    """Return the class that reads the architecture named in the file `where`.

    Raises:
        OtoscopeError: no such architecture here.
    """
    _import_all()
    found = _KINDS.get(kind) if isinstance(kind, str) else None
    if found is None:
        known = ", ".join(sorted(_KINDS))
        raise OtoscopeError(
            f"{where} holds a dictionary of architecture {kind!r}, which cannot be read here; "
            f"known are {known}{nearest(str(kind), _KINDS)}"
        )
    return found


def architecture(kind: str) -> type[Spec]:
    """Return the settings class of a trainable architecture.

    Raises:
        InputError: there is none of that name.
    """
    _import_all()
    if kind not in _SPECS:
        raise InputError(
            f"{kind!r} is not an architecture that can be trained; known are {', '.join(sorted(_SPECS))}"
            f"{nearest(kind, _SPECS) or '.'}"
        )
    return _SPECS[kind]


def architectures() -> dict[str, type[Spec]]:
    """Return every trainable architecture by its kind, sorted."""
    _import_all()
    return dict(sorted(_SPECS.items()))


@cache
def _import_all() -> None:
    """Import every file that may register something."""
    from otoscope.dictionaries import architectures, baselines

    for package in (architectures, baselines):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
