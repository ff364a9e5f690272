"""A program that writes notes while others do."""

from __future__ import annotations

import sys
from pathlib import Path

from otoscope.atlas.notes import FeatureKey, Notes


def write_all(path: Path, note: str, base: str, name: str) -> None:
    """Add ten labels to the feature of a note, and edit one and the same revision of it ten times."""
    notes = Notes(path)
    key: FeatureKey = notes.get(note).feature
    for i in range(10):
        notes.add(key, "label", f"{name} {i}", author=name)
        notes.edit(note, base, editor=name, text=f"{name} {i} edited")


if __name__ == "__main__":
    write_all(Path(sys.argv[1]), *sys.argv[2:])
