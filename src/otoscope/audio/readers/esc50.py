"""ESC-50 and ESC-10: environmental sounds of five seconds, by `meta/esc50.csv` or by a folder per class.

Source: github.com/karolpiczak/ESC-50; files are named `{fold}-{freesound id}-{take}[-{class}]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from otoscope.audio.clip import Clip
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits
from otoscope.audio.readers.rows import rows
from otoscope.audio.readers.tree import Tree, inside, is_sound, stem

_TABLE = "meta/esc50.csv"
_NAME = re.compile(r"([1-5])-\d+-[A-Z](-\d+)?")
_NUMBERED = re.compile(r"\d+ - ")  # ESC-10's own folders: `001 - Dog bark`


def _has_table(tree: Tree) -> bool:
    return tree.has(_TABLE) and bool(tree.list("audio").files)


def _class_folders(tree: Tree) -> list[str]:
    """Return the folders of classes, if all that the folder holds are such."""
    folders = [name for name in tree.list().folders if not name.startswith(".")]
    for folder in folders:
        sounds = [name for name in tree.list(folder).files if is_sound(name)]
        if not sounds or not all(_NAME.fullmatch(stem(name)) for name in sounds):
            return []
    return folders


def _recognise(tree: Tree) -> bool:
    return not tree.is_file and (_has_table(tree) or bool(_class_folders(tree)))


def _read(tree: Tree, split: str | None, problems: Problems) -> Iterator[Clip]:
    """Read all folds, or the fold ("1" … "5") that `split` names."""
    folds = set(chosen_splits(split, "12345", tree.path))
    if _has_table(tree):
        yield from _from_table(tree, folds, problems)
        return
    for folder in _class_folders(tree):
        sound_class = _NUMBERED.sub("", folder).strip().lower().replace(" ", "_")
        for name in tree.list(folder).files:
            if is_sound(name) and name[0] in folds:
                path = inside(folder, name)
                yield Clip(
                    stem(name),
                    path,
                    attributes={"sound_class": sound_class, "fold": name[0]},
                    source=tree.path / path,
                )


def _from_table(tree: Tree, folds: set[str], problems: Problems) -> Iterator[Clip]:
    for where, row in rows(tree.path / _TABLE, problems):
        name, sound_class, fold = (row.get(column, "").strip() for column in ("filename", "category", "fold"))
        if not (name and sound_class and fold):
            problems.add(where, "it lacks a filename, a fold or a category")
        elif not tree.has(f"audio/{name}"):
            problems.add(where, f"the recording {tree.path / 'audio' / name} is missing", stem(name))
        elif fold in folds:
            attributes = {"sound_class": sound_class, "fold": fold}
            if row.get("esc10", "").strip().lower() == "true":
                attributes["esc10"] = "true"
            yield Clip(stem(name), f"audio/{name}", attributes=attributes, source=tree.path / "audio" / name)


READER = Reader(
    "esc50",
    "ESC-50 or ESC-10",
    "meta/esc50.csv and audio/, or a folder per class with files named as in ESC-50",
    recognise=_recognise,
    read=_read,
)
