"""Freed memory goes back to the system when it is asked for."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from otoscope.storage.memory import give_back

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


LEFT = """
import re
import sys
import numpy as np
from otoscope.storage.memory import large_arrays_apart

def held_mb():
    return int(re.findall(r"RssAnon:\\s*(\\d+)", open("/proc/self/status").read())[0]) / 1024

def left_of_large_arrays():
    before, large, small = held_mb(), [], []
    for _ in range(32):
        large.append(np.ones(1 << 19))
        small.append(b"x" * 50_000)
    assert held_mb() > before + 120
    large.clear()
    return held_mb() - before

if sys.argv[1] == "apart":
    with large_arrays_apart():
        print(left_of_large_arrays())
else:
    try:
        with large_arrays_apart():
            raise ValueError
    except ValueError:
        print(left_of_large_arrays())
"""
"""A fresh process makes 128 MB of arrays, between which small objects stay, and says how much stays when they go."""


@glibc_only
@pytest.mark.parametrize("where", ["apart", "in the heap"])
def test_large_arrays_go_back_at_once_where_they_lie_apart(where: str) -> None:
    """The control: afterwards, also after an error, arrays lie in the heap again and stay."""
    done = subprocess.run([sys.executable, "-c", LEFT, where], capture_output=True, text=True, check=True)
    left = float(done.stdout)
    assert left < 16 if where == "apart" else left > 64
