"""Freed memory goes back to the system when it is asked for."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import numpy as np
import pytest

from otoscope.storage.memory import give_back, large_arrays_apart

STATUS = Path("/proc/self/status")


def held_mb() -> float:
    """Anonymous memory of this process."""
    return int(re.findall(r"RssAnon:\s*(\d+)", STATUS.read_text())[0]) / 1024


glibc_only = pytest.mark.skipif(not STATUS.is_file() or "glibc" not in platform.libc_ver(), reason="glibc only")


@glibc_only
def test_what_was_freed_is_given_back() -> None:
    pieces = [b"x" * 16_384 for _ in range(8_192)]  # 128 MB, under the size that glibc maps by itself
    full = held_mb()
    pieces = pieces[::64]
    kept = held_mb()
    give_back()
    assert kept > full - 64, "the control: the C library keeps what lies between pieces in use"
    assert held_mb() < full - 96
    assert len(pieces) == 128


def left_of_large_arrays() -> float:
    """MB that stay when 128 MB of arrays go, between which small objects stay."""
    before = held_mb()
    large, small = [], []
    for _ in range(32):
        large.append(np.ones(1 << 19))
        small.append(b"x" * 50_000)
    assert held_mb() > before + 120
    large.clear()
    assert len(small) == 32
    return held_mb() - before


@glibc_only
def test_large_arrays_go_back_at_once_where_they_lie_apart() -> None:
    with large_arrays_apart():
        assert left_of_large_arrays() < 16
    assert left_of_large_arrays() > 64, "the control: in the heap they stay"
    give_back()


@glibc_only
def test_arrays_lie_in_the_heap_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="in the middle"), large_arrays_apart():
        raise ValueError("in the middle")
    assert left_of_large_arrays() > 64
    give_back()
