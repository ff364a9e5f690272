"""A folder as readers see it: listed once, no file opened and none asked for its size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from otoscope.errors import InputError

SOUND_SUFFIXES = frozenset(
    {
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
    }
    | {".au", ".w64", ".wma", ".mka", ".mkv", ".mov", ".amr", ".3gp", ".sph"}
)


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in one folder, sorted."""

    files: tuple[str, ...]
    folders: tuple[str, ...]


class Tree:
    """A folder (or a single file) with what is below it; paths inside are relative, with `/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_file = path.is_file()
        self._listings: dict[str, Listing] = {}
        self._names: dict[str, frozenset[str]] = {}

    def list(self, folder: str = "") -> Listing:
        """Return the names in a folder; nothing if there is no such folder."""
        if folder not in self._listings:
            files: list[str] = []
            folders: list[str] = []
            try:
                with os.scandir(os.path.join(self.path, folder)) as entries:
                    for entry in entries:
                        (folders if entry.is_dir() else files).append(entry.name)
            except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name no file can have
                pass
            except OSError as error:
                where = os.path.join(self.path, folder)
                raise InputError(f"{where} cannot be read: {error.strerror or error}.") from None
            self._listings[folder] = Listing(tuple(sorted(files)), tuple(sorted(folders)))
        return self._listings[folder]

    def has(self, relative: str) -> bool:
        """Whether there is a file of this path, absolute or relative; its folder is listed, not the file asked."""
        folder, _, name = relative.rpartition("/")
        if relative.startswith("/"):
            folder = folder or "/"
        if folder not in self._names:
            self._names[folder] = frozenset(self.list(folder).files)
        return name in self._names[folder]

    def walk(self, folder: str = "") -> Iterator[tuple[str, Listing]]:
        """Yield each folder with its names, in the order of paths; hidden names are left out, circles of links too."""
        yield from self._walk(folder, frozenset([os.path.realpath(self.path / folder)]))

    def _walk(self, folder: str, above: frozenset[str]) -> Iterator[tuple[str, Listing]]:
        names = self.list(folder)
        folders = tuple(name for name in names.folders if not name.startswith("."))
        yield folder, Listing(tuple(name for name in names.files if not name.startswith(".")), folders)
        for name in folders:
            path = inside(folder, name)
            full = os.path.join(self.path, path)
            if os.path.islink(full):
                real = os.path.realpath(full)
                if real not in above:
                    yield from self._walk(path, above | {real})
            else:
                yield from self._walk(path, above)

    def sounds(self, folder: str = "") -> Iterator[tuple[str, str]]:
        """Yield `(folder, name)` of every recording below a folder, by the suffix of its name."""
        for parent, names in self.walk(folder):
            for name in names.files:
                if is_sound(name):
                    yield parent, name

    def __repr__(self) -> str:
        return f"Tree({str(self.path)!r})"


def inside(folder: str, name: str) -> str:
    """Return the path of a name in a folder."""
    return f"{folder}/{name}" if folder else name


def is_sound(name: str) -> bool:
    """Whether a file is a recording, by its suffix."""
    return os.path.splitext(name)[1].lower() in SOUND_SUFFIXES


def stem(name: str) -> str:
    """Return a file name without its suffix."""
    return os.path.splitext(name)[0]
