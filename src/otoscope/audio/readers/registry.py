"""All readers: each file of this folder with a `READER` is a row, so adding one touches one file."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from pathlib import Path
from typing import NamedTuple

import otoscope.audio.readers as room
from otoscope.audio.clip import Clip
from otoscope.audio.licence import licence_in
from otoscope.audio.problems import OnError, Problem, Problems, check_on_error
from otoscope.audio.readers.beside import attach_labels
from otoscope.audio.readers.reader import Reader
from otoscope.audio.readers.tree import Tree, is_sound
from otoscope.audio.tiers import without_empty
from otoscope.errors import InputError, nearest

_WRAPPERS = 2  # folders that hold one folder and no recordings, as archives are unpacked


@functools.cache
def readers() -> dict[str, Reader]:
    """Return the readers by kind, in the order in which they are asked."""
    modules = (importlib.import_module(f"{room.__name__}.{each.name}") for each in pkgutil.iter_modules(room.__path__))
    found = [module.READER for module in modules if hasattr(module, "READER")]
    return {reader.kind: reader for reader in sorted(found, key=lambda reader: (reader.rank, reader.kind))}


def reader_of(path: Path, kind: str | None) -> tuple[Reader, Tree]:
    """Return the reader of what lies at `path`, and the folder it reads: `path`, or the only folder in it.

    Raises:
        InputError: there is nothing, or no such kind.
    """
    if kind is not None and kind not in readers():
        raise InputError(
            f"There is no kind of corpus {kind!r}; there are {', '.join(readers())}{nearest(kind, readers())}"
        )
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    tree = Tree(path)
    candidates = [readers()[kind]] if kind is not None else list(readers().values())[:-1]
    inner = tree
    for _ in range(_WRAPPERS + 1):
        for reader in candidates:
            if reader.recognise(inner):
                return reader, inner
        names = inner.list()
        folders = [name for name in names.folders if not name.startswith(".")]
        if inner.is_file or len(folders) != 1 or any(is_sound(name) for name in names.files):
            break
        inner = Tree(inner.path / folders[0])
    return (candidates[0] if kind is not None else list(readers().values())[-1]), tree


def is_digits(path: Path) -> bool:
    """Whether a folder holds spoken digits by their names."""
    return readers()["fsdd"].recognise(Tree(path))


class Opened(NamedTuple):
    """What lies at a place: see `Corpus`."""

    name: str
    clips: list[Clip]
    problems: tuple[Problem, ...]
    licence: str


def open_clips(path: Path, *, kind: str | None, split: str | None, labels: Path | None, on_error: OnError) -> Opened:
    """Return the name of the corpus at `path`, its clips, what was left out, and its licence.

    Raises:
        InputError: nothing there, no such kind or split, no clips; or, unless `on_error` is "skip", an item that cannot
            be used.
    """
    check_on_error(on_error)
    reader, tree = reader_of(path, kind)
    problems = Problems()
    clips = list(reader.read(tree, split, problems))
    if labels is not None:
        clips = attach_labels(clips, labels, problems)
    found = problems.settle(on_error)
    if not clips:
        why = f"; {len(found):,} items cannot be used, the first: {found[0]}" if found else ""
        raise InputError(f"{path} has no clips as {reader.title}{why}.")
    name = reader.name(tree) if reader.name is not None else tree.path.resolve().name
    licence = reader.licence(tree) if reader.licence is not None else licence_in(tree.path, path)
    return Opened(name, [_with_tuple_tiers(clip) for clip in clips], found, licence)


def _with_tuple_tiers(clip: Clip) -> Clip:
    """Leave out empty tiers, which say nothing."""
    tiers = without_empty(clip.tiers)
    return clip if tiers is clip.tiers else dataclasses.replace(clip, tiers=tiers)
