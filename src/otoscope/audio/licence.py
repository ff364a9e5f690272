"""What a corpus says of its sound: who made it, and what it may be used for."""

from __future__ import annotations

import json
from pathlib import Path

from otoscope.audio.clip import Clip

NAMES = ("licence", "license", "copying", "copyright", "attribution", "credits", "notice")
ENDINGS = ("", ".txt", ".md")
_DOWNLOADS = ".otoscope"
_ARCHIVES = 3  # folders within each other, as archives are unpacked
_MAX_BYTES = 100_000
CREDITS = ("licence", "license", "attribution", "author", "credit", "copyright", "source_url", "url")
"""Attributes of clips that say who made them and what they may be used for."""


def licence_in(*folders: Path) -> str:
    """Return what the first folder that says anything says: what it was downloaded as, and `LICENSE.txt`."""
    for folder in folders:
        if folder.is_dir() and (said := "\n\n".join([*_downloaded(folder), *_written(folder)])):
            return said
    return ""


def credit_of(clip: Clip) -> str:
    """Return what a clip says of itself in its attributes; empty where it says nothing."""
    return " · ".join(str(clip.attributes[name]) for name in CREDITS if clip.attributes.get(name))


def _written(folder: Path) -> list[str]:
    found = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS)
    return [text for path in found if path.stem.lower() in NAMES and (text := _text(path))]


def _downloaded(folder: Path) -> list[str]:
    """What `otoscope download` wrote down of a folder, or of one that it was unpacked in."""
    above = folder.resolve()
    places = (each / _DOWNLOADS for each in (above, *above.parents[:_ARCHIVES]))
    notes = next((place for place in places if place.is_dir()), folder / _DOWNLOADS)
    found = []
    for path in sorted(notes.glob("*.json")):
        try:
            record = json.loads(_text(path))
            found.append(f"{record['title']}: {record['licence']} ({record['homepage']})")
        except (ValueError, LookupError, TypeError):  # no record of a download
            continue
    return found


def _text(path: Path) -> str:
    """Return the text of a file, without what lies past the hundred thousandth byte; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""
