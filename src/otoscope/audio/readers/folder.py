"""A folder of recordings, searched with its subfolders."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from otoscope.audio.clip import Clip, unique_ids
from otoscope.audio.readers.fsdd import is_fsdd, label_fsdd
from otoscope.errors import InputError

EXTENSIONS = frozenset(
    [
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".m4a",
        ".mp4",
        ".webm",
        ".aac",
        ".aif",
        ".aiff",
        ".aifc",
        ".caf",
        ".au",
        ".w64",
        ".wma",
        ".mka",
        ".mkv",
        ".mov",
        ".amr",
        ".3gp",
    ]
)


def read_folder(folder: Path) -> list[Clip]:
    """Return a clip per recording below `folder`, in the order of their paths; hidden files are left out.

    Raises:
        InputError: not a folder, or no recordings in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of recordings.")
    paths = sorted(_recordings(folder), key=lambda path: path.as_posix())
    if not paths:
        raise InputError(f"{folder} has no recordings ({', '.join(sorted(EXTENSIONS)[:6])}, …) in it or below it.")
    ids = unique_ids([path.with_suffix("").as_posix() for path in paths])
    clips = [
        Clip(
            clip_id,
            path.as_posix(),
            attributes={} if path.parent == Path() else {"folder": path.parent.as_posix()},
            source=folder / path,
        )
        for clip_id, path in zip(ids, paths, strict=True)
    ]
    if not any(is_fsdd(path.stem) for path in paths):
        return clips
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(label_fsdd, clips, [path.stem for path in paths]))


def _recordings(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                found.append(Path(parent, name).relative_to(folder))
    return found
