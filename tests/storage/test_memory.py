"""Freed memory goes back to the system when it is asked for."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from otoscope.storage.memory import give_back

STATUS = Path("/proc/self/status")


def held_mb() -> float:
    """Anonymous memory of this process."""
    return int(re.findall(r"RssAnon:\s*(\d+)", STATUS.read_text())[0]) / 1024


@pytest.mark.skipif(not STATUS.is_file() or "glibc" not in platform.libc_ver(), reason="glibc only")
def test_what_was_freed_is_given_back() -> None:
    pieces = [b"x" * 16_384 for _ in range(8_192)]  # 128 MB, under the size that glibc maps by itself
    full = held_mb()
    pieces = pieces[::64]
    kept = held_mb()
    give_back()
    assert kept > full - 64, "the control: the C library keeps what lies between pieces in use"
    assert held_mb() < full - 96
    assert len(pieces) == 128
