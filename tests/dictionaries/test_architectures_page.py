"""The page of architectures names every one that can be trained, and only those."""

from __future__ import annotations

import re
from pathlib import Path

from otoscope.dictionaries.registry import architectures

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"


def test_every_architecture_has_a_row_with_its_class() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    assert dict(rows) == {kind: spec.__name__ for kind, spec in architectures().items()}
    assert len(rows) == len(dict(rows))
