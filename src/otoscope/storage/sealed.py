"""Sealed folders: a `meta.json` that lists every file, and checksums of every 64 KiB of each.

`meta.json` carries its own SHA-256 (key "seal"); `checks.bin` holds the XXH3 checksums (uint64, file after file in the
order of `meta["files"]`), and its SHA-256 stands in `meta.json`. So opening reads kilobytes, and yet no changed byte is
ever used: blocks are checked when first touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.errors import OtoscopeError
from otoscope.storage.arrays import BLOCK_BYTES, ArrayFile, DamagedError, block_checks, damaged_blocks
from otoscope.storage.files import read_json, sha256_file, write_json

META, CHECKS = "meta.json", "checks.bin"


@dataclass(frozen=True)
class Damage:
    """One damaged stretch of a sealed folder: `file` (relative), bytes `start` to `stop` (0, 0: missing or resized)."""

    file: str
    what: str
    start: int = 0
    stop: int = 0


def seal(folder: Path, meta: dict[str, Any], *, format: str, version: int) -> None:
    """Write `checks.bin` and `meta.json` for all files below a folder; the folder is then complete."""
    (folder / CHECKS).unlink(missing_ok=True)
    (folder / META).unlink(missing_ok=True)
    files, checks, n_blocks = {}, [], 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found = block_checks(path)
        files[path.relative_to(folder).as_posix()] = {"bytes": os.path.getsize(path), "first_block": n_blocks}
        checks.append(found)
        n_blocks += len(found)
    (np.concatenate(checks) if checks else np.zeros(0, np.uint64)).astype("<u8").tofile(folder / CHECKS)
    whole = {
        "format": format,
        "version": version,
        **meta,
        "checks": {"algorithm": "xxh3_64", "block_bytes": BLOCK_BYTES, "sha256": sha256_file(folder / CHECKS)},
        "files": files,
    }
    write_json(folder / META, {**whole, "seal": _digest(whole)})


class SealedFolder:
    """A folder written by `seal`; its files open lazily and are checked as they are read. Safe between threads.

    Raises:
        OtoscopeError: missing, of another format or version.
        DamagedError: `meta.json` or `checks.bin` changed, or a file is missing or resized.
    """

    def __init__(self, folder: Path, *, format: str, version: int, lenient: bool = False) -> None:
        self.folder = folder
        self.meta = read_json(folder / META, format=format, version=version)
        sealed = {key: value for key, value in self.meta.items() if key != "seal"}
        if _digest(sealed) != self.meta.get("seal"):
            raise DamagedError(folder / META, "its contents changed")
        path = folder / CHECKS
        if not path.is_file() or sha256_file(path) != self.meta["checks"]["sha256"]:
            raise DamagedError(path, "it is missing or its contents changed")
        self._checks = np.fromfile(path, dtype="<u8")
        self._open: dict[str, ArrayFile] = {}
        self._whole: set[str] = set()
        self._lock = threading.Lock()
        if not lenient:
            for name in self.meta["files"]:
                if problem := self._size_problem(name):
                    raise DamagedError(folder / name, problem)

    def __contains__(self, name: str) -> bool:
        return name in self.meta["files"]

    def arrays(self, name: str) -> ArrayFile:
        """Return the arrays of a file, opened once."""
        found = self._open.get(name)
        if found is None:
            with self._lock:
                found = self._open.get(name) or ArrayFile(self.folder / name, self.checks(name))
                self._open[name] = found
        return found

    def path(self, name: str) -> Path:
        """Return the path of a file, all of it checked the first time.

        Raises:
            DamagedError: it changed since it was written.
        """
        path = self.folder / name
        if name not in self._whole:
            for start, stop in damaged_blocks(path, self.checks(name)):
                raise DamagedError(path, "its contents changed", start, stop)
            self._whole.add(name)
        return path

    def checks(self, name: str) -> npt.NDArray[np.uint64]:
        """Return the checksums of a file's blocks."""
        if name not in self.meta["files"]:
            raise OtoscopeError(f"{self.folder} has no file {name!r}.")
        entry = self.meta["files"][name]
        n = -(-int(entry["bytes"]) // BLOCK_BYTES)
        return self._checks[entry["first_block"] : entry["first_block"] + n]

    def damage(self) -> list[Damage]:
        """Read every byte and return what is not as it was written."""
        found = []
        for name in self.meta["files"]:
            if problem := self._size_problem(name):
                found.append(Damage(name, problem))
                continue
            blocks = damaged_blocks(self.folder / name, self.checks(name))
            found += [Damage(name, "its contents changed", start, stop) for start, stop in blocks]
        known = {*self.meta["files"], META, CHECKS}
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            if (name := path.relative_to(self.folder).as_posix()) not in known:
                found.append(Damage(name, "it does not belong here"))
        return found

    def release(self) -> None:
        """Give back the memory of everything that was read."""
        for file in list(self._open.values()):
            file.release()

    def _size_problem(self, name: str) -> str:
        path, expected = self.folder / name, int(self.meta["files"][name]["bytes"])
        size = os.path.getsize(path) if path.is_file() else -1
        if size == expected:
            return ""
        return "it is missing" if size < 0 else f"it has {size:,} bytes instead of {expected:,}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
