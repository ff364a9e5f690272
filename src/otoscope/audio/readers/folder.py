"""A folder of recordings, searched with its subfolders, with the label files beside them."""

from __future__ import annotations

from collections.abc import Mapping

from otoscope.audio.clip import Clip, unique_ids
from otoscope.audio.problems import Problems
from otoscope.audio.readers.beside import label_files, read_beside
from otoscope.audio.readers.reader import Reader, chosen_splits
from otoscope.audio.readers.tree import SOUND_SUFFIXES, Tree, inside, is_sound, stem
from otoscope.errors import InputError


def read_folder(tree: Tree, split: str | None, problems: Problems) -> list[Clip]:
    """Return a clip per recording below a folder, in the order of their paths; hidden files are left out.

    `clip.TextGrid`, `clip_annot.json`, `clip.phone.json`, `clip.PHN`, Audacity's `clip.txt`… beside `clip.wav` become
    its tiers; a `clip.txt` or `clip.lab` of plain words becomes its text. A CTM is given with `labels=`.

    Raises:
        InputError: not a folder, or no recordings in it.
    """
    if tree.is_file or not tree.path.is_dir():
        raise InputError(f"{tree.path} is not a folder of recordings.")
    chosen_splits(split, (), tree.path)
    found = sorted(((folder, name) for folder, name in tree.sounds()), key=lambda each: inside(*each))
    if not found:
        raise InputError(
            f"{tree.path} has no recordings ({', '.join(sorted(SOUND_SUFFIXES)[:6])}, …) in it or below it."
        )
    labels = _labels(tree)
    ids = unique_ids([stem(inside(folder, name)) for folder, name in found])
    clips = []
    for clip_id, (folder, name) in zip(ids, found, strict=True):
        path = inside(folder, name)
        clip = Clip(
            clip_id,
            path,
            attributes={"folder": folder} if folder else {},
            source=tree.path / path,
        )
        if by_stem := labels.get(folder):
            tiers, text = read_beside(tree.path / folder, stem(name), by_stem, problems)
            clip = Clip(clip_id, path, text=text, attributes=clip.attributes, tiers=tiers, source=clip.source)
        clips.append(clip)
    return clips


def _labels(tree: Tree) -> Mapping[str, Mapping[str, list[str]]]:
    """Return the label files of each folder that has some."""
    found = {}
    for folder, names in tree.walk():
        if by_stem := label_files(name for name in names.files if not is_sound(name)):
            found[folder] = by_stem
    return found


READER = Reader(
    "folder",
    "a folder of recordings",
    "recordings in a folder and below it; labels beside them",
    recognise=lambda tree: not tree.is_file,
    read=read_folder,
    rank=100,
)
