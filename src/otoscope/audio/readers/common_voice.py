"""Common Voice: `clips/` and a table per split, for one language or a folder of languages.

Source: the README of the Common Voice data sets (github.com/common-voice/cv-dataset).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from otoscope.audio.clip import Clip, unique_ids
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits, gender
from otoscope.audio.readers.rows import lines, rows
from otoscope.audio.readers.tree import Tree, inside
from otoscope.errors import InputError

_SPLITS = ("train", "dev", "test", "validated", "other", "invalidated")
_AS_ATTRIBUTES = {"age": "age", "accents": "accent", "accent": "accent", "variant": "variant"}


def _homes(tree: Tree) -> list[str]:
    """Return the folders of languages: those with `clips/` and a table of a split."""
    return [
        folder
        for folder in ("", *tree.list().folders)
        if "clips" in tree.list(folder).folders and _tables(tree, folder)
    ]


def _tables(tree: Tree, home: str) -> list[str]:
    found = [split for split in _SPLITS if f"{split}.tsv" in tree.list(home).files]
    with_columns = []
    for split in found:
        first = next(lines(tree.path / home / f"{split}.tsv", Problems()), (0, ""))[1].split("\t")
        if {"client_id", "path", "sentence"} <= {name.strip() for name in first}:
            with_columns.append(split)
    return with_columns


def _recognise(tree: Tree) -> bool:
    return not tree.is_file and bool(_homes(tree))


def _read(tree: Tree, split: str | None, problems: Problems) -> list[Clip]:
    """Read one split, or train, dev and test together; only without those, all that was validated."""
    homes = _homes(tree)
    if not homes:
        raise InputError(f"{tree.path} is not Common Voice: it needs clips/ and train.tsv, validated.tsv, ….")
    chosen_splits(split, dict.fromkeys(name for home in homes for name in _tables(tree, home)), tree.path)
    clips: list[Clip] = []
    for home in homes:
        there = _tables(tree, home)
        parts = [name for name in ("train", "dev", "test") if name in there] or there[:1]
        for part in parts if split is None else [name for name in there if name == split]:
            clips += _split(tree, home, part, problems)
    ids = unique_ids([clip.clip_id for clip in clips])
    return [
        clip if clip.clip_id == clip_id else dataclasses.replace(clip, clip_id=clip_id)
        for clip, clip_id in zip(clips, ids, strict=True)
    ]


def _split(tree: Tree, home: str, split: str, problems: Problems) -> Iterator[Clip]:
    table = tree.path / home / f"{split}.tsv"
    for where, row in rows(table, problems, delimiter="\t", quoted=False):
        name = row["path"].strip()
        if not name:
            problems.add(where, "it names no recording in column 'path'")
            continue
        path = inside(home, f"clips/{name}" if "." in name else f"clips/{name}.mp3")
        if not tree.has(path):
            problems.add(where, f"the recording {tree.path / path} is missing")
            continue
        attributes = {"split": split, **gender(row.get("gender"))}
        attributes |= {ours: text for column, ours in _AS_ATTRIBUTES.items() if (text := row.get(column, "").strip())}
        yield Clip(
            name.rpartition(".")[0] or name,
            path,
            text=row["sentence"].strip() or None,
            speaker=row["client_id"] or None,
            language=row.get("locale", "").strip() or None,
            attributes=attributes,
            source=tree.path / path,
        )


READER = Reader(
    "common-voice",
    "Common Voice",
    "clips/ beside train.tsv, dev.tsv, test.tsv, validated.tsv…; or folders of languages with these",
    recognise=_recognise,
    read=_read,
)
