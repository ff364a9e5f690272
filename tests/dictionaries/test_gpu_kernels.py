"""The Triton programs give what their definitions give: in Triton's interpreter everywhere, on a GPU where one is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton has no build for this platform")
SCRIPT = str(Path(__file__).with_name("gpu_parity.py"))


def run(*arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_programs_equal_their_definitions_in_the_interpreter() -> None:
    run("compare", "cpu", TRITON_INTERPRET="1")


@pytest.mark.parametrize("capability", ["90"], ids=["H100 and H200"])
def test_programs_compile_to_machine_code(capability: str, tmp_path: Path) -> None:
    run("compile", capability, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_programs_equal_their_definitions_on_a_gpu() -> None:
    run("compare", "cuda", TRITON_INTERPRET="0")
