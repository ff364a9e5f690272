"""Errors that people see: one sentence saying what was wrong, with which value, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OtoscopeError(Exception):
    """Something failed while working (a full disk, a damaged file); the command line exits with code 1."""


class InputError(OtoscopeError, ValueError):
    """What the user asked for cannot be done as asked; the command line exits with code 2."""


def nearest(value: str, valid: Iterable[str], count: int = 3) -> str:
    """Return `"; did you mean A, B?"` for the valid names closest to `value`, or `""` if none is close."""
    close = difflib.get_close_matches(value, list(valid), n=count, cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else ""
