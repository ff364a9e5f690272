"""Memory that was freed goes back to the system, where the C library would keep it."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any


def give_back() -> None:
    """Return freed memory to the system: a long job then holds what it uses, not the most that each of its steps used.

    glibc keeps what arrays of less than 32 MB took, in as many arenas as there were threads. This takes milliseconds
    for a full heap, and does nothing with other C libraries.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], Any] | None:
    try:
        trim: Callable[[int], Any] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library; TypeError: Windows has no process of that name
        return None
    return trim
