"""Files of times that belong to recordings: beside them, in a folder of their own, or one file for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from otoscope.audio.clip import Clip, Tiers
from otoscope.audio.labels import audacity, label_format, read_label_file, timit
from otoscope.audio.labels.formats import read_text
from otoscope.audio.labels.json_times import UnknownShapeError
from otoscope.audio.problems import Problems
from otoscope.audio.readers.tree import Tree, inside, stem
from otoscope.errors import InputError, nearest

_MAYBE_TEXT = {".txt": audacity.looks_like, ".lab": timit.looks_like}
"""Suffixes that name transcripts as well as times, and how times are told from text."""


def label_files(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of files of times by the stem of their recording: `a.TextGrid` and `a.words.txt` by `a`."""
    found: dict[str, list[str]] = {}
    for name in names:
        if (known := label_format(name)) is not None and not known[0].shared:
            found.setdefault(known[1], []).append(name)
    return found


def read_beside(
    folder: Path, recording: str, by_stem: Mapping[str, list[str]], problems: Problems
) -> tuple[Tiers, str | None]:
    """Return the tiers of a recording from the files of its stem, and its text where a plain .txt holds one."""
    own = [*by_stem.get(recording, ())]
    own += [name for tier in ("words", "phones", "events") for name in by_stem.get(f"{recording}.{tier}", ())]
    tiers: dict[str, Tiers] = {}
    text = None
    for name in own:
        path = folder / name
        with problems.item(path):
            looks_like = _MAYBE_TEXT.get(Path(name).suffix.lower())
            if looks_like is not None and not looks_like(content := read_text(path)):
                text = " ".join(content.split()) or None
                continue
            try:
                tiers[name] = _tiers(path, recording, problems)
            except UnknownShapeError:
                if name != f"{recording}.json":  # any program may leave a .json beside a recording
                    raise
    return {tier: intervals for each in tiers.values() for tier, intervals in each.items()}, text


def _tiers(path: Path, recording: str, problems: Problems) -> Tiers:
    by_recording = read_label_file(path, problems)
    return by_recording.get(recording) or by_recording.get(None) or {}


def attach_labels(clips: list[Clip], labels: Path, problems: Problems) -> list[Clip]:
    """Return the clips with the tiers of a folder of label files, or of one file about many recordings (CTM).

    A clip's file has its path, its id or its name. Tiers given here replace those of the same name.

    Raises:
        InputError: there is nothing at `labels`, or nothing in it belongs to any clip.
    """
    if not labels.exists():
        raise InputError(f"{labels} does not exist; labels= takes a folder of label files, or a CTM.")
    found = _from_file(labels, problems) if labels.is_file() else None
    files = _index(Tree(labels)) if found is None else {}
    used = 0
    result = []
    for clip in clips:
        keys = _keys(clip)
        if found is not None:
            tiers = next((found[key] for key in keys if key in found), {})
        else:
            paths = next((files[key] for key in keys if files.get(key)), [])
            tiers = {}
            for path in paths:
                with problems.item(path):
                    tiers = {**tiers, **_tiers(path, Path(keys[0]).name, problems)}
            used += bool(paths)
        used += bool(tiers)
        result.append(dataclasses.replace(clip, tiers={**clip.tiers, **tiers}) if tiers else clip)
    if not used:
        names = [str(name) for name in (found or files)]
        hint = nearest(_keys(clips[0])[-1], names) if clips else ""
        raise InputError(
            f"{labels} has labels of no clip: they are found by the clip's path, id or name, as "
            f"{', '.join(repr(key) for key in _keys(clips[0])) if clips else 'there are no clips'}{hint or '.'}"
        )
    return result


def _keys(clip: Clip) -> list[str]:
    path = stem(clip.uri)
    return list(dict.fromkeys([path, clip.clip_id, path.rpartition("/")[2]]))


def _from_file(path: Path, problems: Problems) -> dict[str, Tiers]:
    by_recording = read_label_file(path, problems)
    return {name: tiers for name, tiers in by_recording.items() if name is not None}


def _index(tree: Tree) -> dict[str, list[Path]]:
    """Return label files by the path of their recording below the folder, and by its name where it is the only one."""
    files: dict[str, list[Path]] = {}
    by_name: dict[str, list[str]] = {}
    for folder, names in tree.walk():
        for recording, own in label_files(names.files).items():
            path = inside(folder, recording)
            files[path] = [tree.path / folder / name for name in own]
            by_name.setdefault(recording, []).append(path)
    for recording, paths in by_name.items():
        if len(paths) == 1:
            files.setdefault(recording, files[paths[0]])
    return files
