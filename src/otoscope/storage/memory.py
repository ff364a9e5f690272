"""Memory that was freed goes back to the system, where the C library would keep it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from typing import Any

_M_MMAP_THRESHOLD = -3
_LARGE, _LARGEST = 1 << 20, 1 << 25  # bytes; the latter is the most that glibc would come to by itself


def give_back() -> None:
    """Return freed memory to the system: a long job then holds what it uses, not the most that each of its steps used.

    glibc keeps what arrays of less than 32 MB took, in as many arenas as there were threads. This takes milliseconds
    for a full heap, and does nothing with other C libraries.
    """
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def large_arrays_apart() -> Iterator[None]:
    """Within it, arrays of a megabyte or more for which the heap has no room go back to the system when they are freed.

    For jobs that hold many large arrays for a moment each: a heap that grew by them would be kept from shrinking by
    small ones that stay between. Each takes its pages anew, about a millisecond for 10 MB. With glibc only.
    """
    option = _of_libc("mallopt")
    if option is None:
        yield
        return
    option(_M_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        option(_M_MMAP_THRESHOLD, _LARGEST)
        give_back()


@functools.cache
def _of_libc(name: str) -> Callable[..., Any] | None:
    try:
        if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
            return None
        found: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no process of that name
        return None
    return found
