"""The browser code is ours or vendored, small, and needs no network."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WEB = ROOT / "src" / "otoscope" / "server" / "web"
BUDGET_BYTES = 150_000


def test_vendored_files_are_what_npm_published() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "vendor.py"), "verify"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def loaded(start: Path, seen: set[Path]) -> set[Path]:
    """Return a module and everything that it imports."""
    if start not in seen:
        seen.add(start)
        for name in re.findall(r'(?:from|import)\s*"([^"]+)"', start.read_text("utf-8")):
            assert name.startswith("."), f"{start.name} imports {name}, which is not a file of ours"
            loaded((start.parent / name).resolve(), seen)
    return seen


def test_the_first_view_fits_the_budget() -> None:
    files = {WEB / "index.html", WEB / "style.css", WEB / "favicon.svg", *loaded(WEB / "app.js", set())}
    size = sum(len(gzip.compress(path.read_bytes(), 6)) for path in files)
    assert size <= BUDGET_BYTES, f"{size} bytes gzipped"


def test_every_module_is_used() -> None:
    ours = {path for path in WEB.rglob("*.js") if "vendor" not in path.parts}
    assert ours <= loaded(WEB / "app.js", set())


def test_nothing_is_fetched_from_elsewhere() -> None:
    for path in WEB.rglob("*"):
        if path.is_file() and "vendor" not in path.parts:
            text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://", text), path
