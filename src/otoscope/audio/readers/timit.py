"""TIMIT: `TRAIN/DR1/FCJF0/SA1.WAV` with .PHN, .WRD and .TXT beside it, in upper or lower case.

Source: the readme of LDC93S1. Its .WAV are NIST SPHERE files, which libsndfile reads; copies as RIFF, FLAC and
`SA1.WAV.wav` are common.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from otoscope.audio.clip import Clip, Tiers
from otoscope.audio.labels import read_label_file
from otoscope.audio.labels.formats import read_text
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits, gender
from otoscope.audio.readers.tree import Listing, Tree, inside, is_sound
from otoscope.errors import InputError

_REGION = re.compile(r"dr[1-8]", re.IGNORECASE)
_SPEAKER = re.compile(r"[fm][a-z]{3}\d", re.IGNORECASE)
_ACCENTS = (
    "New England",
    "Northern",
    "North Midland",
    "South Midland",
    "Southern",
    "New York City",
    "Western",
    "Army brat",
)
"""Dialect regions 1 to 8."""


def _splits(tree: Tree) -> dict[str, str]:
    """Return the folder of each split: those that hold dialect regions."""
    return {
        (name or tree.path.resolve().name).lower(): name
        for name in ("", *tree.list().folders)
        if any(_is_region(tree, inside(name, folder)) for folder in tree.list(name).folders)
    }


def _is_region(tree: Tree, folder: str) -> bool:
    return bool(_REGION.fullmatch(folder.rpartition("/")[2])) and any(
        _SPEAKER.fullmatch(name) for name in tree.list(folder).folders
    )


def _recognise(tree: Tree) -> bool:
    return not tree.is_file and bool(_splits(tree))


def _read(tree: Tree, split: str | None, problems: Problems) -> Iterator[Clip]:
    splits = _splits(tree)
    for name in chosen_splits(None if split is None else split.lower(), splits, tree.path):
        home = splits[name]
        for region in tree.list(home).folders:
            if not _REGION.fullmatch(region):
                continue
            for speaker in tree.list(inside(home, region)).folders:
                if _SPEAKER.fullmatch(speaker):
                    folder = f"{inside(home, region)}/{speaker}"
                    attributes = {
                        "split": name,
                        "dialect": _ACCENTS[int(region[-1]) - 1],
                        **gender(speaker[0]),
                    }
                    yield from _speaker(tree, folder, speaker.lower(), attributes, problems)


def _speaker(tree: Tree, folder: str, speaker: str, attributes: dict[str, str], problems: Problems) -> Iterator[Clip]:
    names = tree.list(folder)
    sounds = _sounds(names)
    companions = {name.lower(): name for name in names.files}
    sentences = dict.fromkeys(
        name.lower().partition(".")[0] for name in names.files if is_sound(name) or name.lower().endswith(".phn")
    )
    for sentence in sentences:
        if sentence not in sounds:
            problems.add(tree.path / folder, f"the recording of sentence {sentence!r} is missing")
            continue
        path = inside(folder, sounds[sentence])
        tiers: dict[str, Tiers] = {}
        for suffix in (".wrd", ".phn"):
            if (name := companions.get(sentence + suffix)) is not None:
                with problems.item(tree.path / folder / name):
                    tiers[suffix] = read_label_file(tree.path / folder / name, problems)[None]
        text = None
        if (name := companions.get(sentence + ".txt")) is not None:
            with problems.item(tree.path / folder / name):
                text = _text(tree, inside(folder, name))
        yield Clip(
            f"{attributes['split']}-{folder.rsplit('/', 2)[-2].lower()}-{speaker}-{sentence}",
            path,
            text=text,
            speaker=speaker,
            language="en",
            attributes={**attributes, "sentence": sentence},
            tiers={tier: intervals for each in tiers.values() for tier, intervals in each.items()},
            source=tree.path / path,
        )


def _sounds(names: Listing) -> dict[str, str]:
    """Return the recording of each sentence; `SA1.WAV.wav` (converted) goes before `SA1.WAV`."""
    found: dict[str, str] = {}
    for name in names.files:
        sentence = name.lower().partition(".")[0]
        if is_sound(name) and len(name) >= len(found.get(sentence, "")):
            found[sentence] = name
    return found


def _text(tree: Tree, path: str) -> str:
    """Read `0 61748 She had your dark suit…`."""
    cells = read_text(tree.path / path).split(maxsplit=2)
    if len(cells) < 3 or not (cells[0].isdigit() and cells[1].isdigit()):
        raise InputError("it is not begin, end and text")
    return " ".join(cells[2].split())


READER = Reader(
    "timit",
    "TIMIT",
    "TRAIN/ and TEST/ with DR1 … DR8, a folder per speaker, .PHN and .WRD beside the recordings",
    recognise=_recognise,
    read=_read,
)
