"""Sealed folders: a `meta.json` that lists every file, and checksums of every 64 KiB of each.

`checks.bin` holds the XXH3 checksums (uint64, file after file in the order of `meta["files"]`), and its SHA-256 stands
in `meta.json`. The last key of `meta.json`, "seal", is the SHA-256 of every byte before it. So opening reads kilobytes,
and yet no changed byte is ever used: blocks are checked when first touched. `meta.copy.json` is the same file once
more, since nothing else could restore it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import xxhash

from otoscope.errors import OtoscopeError
from otoscope.storage.arrays import BLOCK_BYTES, ArrayFile, DamagedError, block_checks, damaged_blocks
from otoscope.storage.files import atomic_path, sha256_file

META, COPY, CHECKS = "meta.json", "meta.copy.json", "checks.bin"
MAX_META_BYTES = 1 << 28
_SEAL = b',\n "seal": "%s"\n}\n'
_SEAL_BYTES = len(_SEAL % bytes(64))


@dataclass(frozen=True)
class Damage:
    """One damaged stretch of a sealed folder: `file` (relative), bytes `start` to `stop` (0, 0: all of it)."""

    file: str
    what: str
    start: int = 0
    stop: int = 0


def seal(folder: Path, meta: dict[str, Any], *, format: str, version: int) -> None:
    """Write `checks.bin` and `meta.json` for all files below a folder; the folder is then complete.

    Every file reaches the disk before `meta.json` does, so that a crash leaves a folder that cannot be opened rather
    than one that is taken for whole.
    """
    for name in (META, COPY, CHECKS):
        (folder / name).unlink(missing_ok=True)
    files, checks, n_blocks = {}, [np.zeros(0, np.uint64)], 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found = block_checks(path)
        _to_disk(path)
        files[path.relative_to(folder).as_posix()] = {"bytes": os.path.getsize(path), "first_block": n_blocks}
        checks.append(found)
        n_blocks += len(found)
    with atomic_path(folder / CHECKS) as temporary:
        np.concatenate(checks).astype("<u8").tofile(temporary)
    whole = {
        "format": format,
        "version": version,
        **meta,
        "checks": {"algorithm": "xxh3_64", "block_bytes": BLOCK_BYTES, "sha256": sha256_file(folder / CHECKS)},
        "files": files,
    }
    text = json.dumps(whole, indent=1, ensure_ascii=False).encode()[: -len("\n}")]
    text += _SEAL % hashlib.sha256(text).hexdigest().encode()
    for name in (COPY, META):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(text)
    for path in (p for p in folder.rglob("*") if p.is_dir()):
        _to_disk(path)
    _to_disk(folder)


def read_sealed(path: Path, *, format: str, version: int) -> dict[str, Any]:
    """Read a `meta.json` written by `seal`.

    Raises:
        OtoscopeError: missing, of another format or version.
        DamagedError: it is not as it was written.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_META_BYTES + 1)
    except FileNotFoundError:
        raise OtoscopeError(f"{path} does not exist; expected an {format} there.") from None
    except OSError as error:
        raise DamagedError(path, f"it cannot be read ({error.strerror or error})") from error
    body, end = data[:-_SEAL_BYTES], data[-_SEAL_BYTES:]
    good = end == _SEAL % hashlib.sha256(body).hexdigest().encode() and len(data) <= MAX_META_BYTES
    try:
        meta = json.loads(data)
        if not good and (not isinstance(meta, dict) or "seal" in meta or meta["version"] == version):
            raise ValueError("its contents changed")
        found, written = meta["format"], meta["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(path, "its contents changed") from error
    if found != format:
        raise OtoscopeError(f"{path} is not an {format} (found {found!r}).")
    if written != version:
        raise OtoscopeError(f"{path} has version {written!r}; this program reads version {version}: build it again.")
    return dict(meta)


class SealedFolder:
    """A folder written by `seal`; its files open lazily and are checked as they are read. Safe between threads.

    Args:
        folder: where it is.
        format, version: what it must be.
        lenient: open it although files are missing or resized, for those who look for what is still good.

    Raises:
        OtoscopeError: missing, of another format or version.
        DamagedError: `meta.json` or `checks.bin` changed, or a file is missing or resized.
    """

    def __init__(self, folder: Path, *, format: str, version: int, lenient: bool = False) -> None:
        self.folder = folder
        self.meta = read_sealed(folder / META, format=format, version=version)
        self._checks = self._read_checks()
        self._open: dict[str, ArrayFile] = {}
        self._whole: set[str] = set()
        self._lock = threading.Lock()
        if not lenient:
            for name in self.meta["files"]:
                if problem := self._size_problem(name):
                    raise DamagedError(folder / name, problem)

    def _read_checks(self) -> npt.NDArray[np.uint64]:
        """Read `checks.bin`, and refuse a list of files that cannot be: anybody can write a seal."""
        path = self.folder / CHECKS
        try:
            expected, n_blocks = str(self.meta["checks"]["sha256"]), 0
            for name, entry in self.meta["files"].items():
                place = PurePosixPath(name)
                if not place.parts or place.is_absolute() or {"..", "\\", ":"} & {*place.parts, *name}:
                    raise ValueError(f"it lists {name!r}, which is not in the folder")
                if entry["first_block"] != n_blocks or not isinstance(entry["bytes"], int) or entry["bytes"] < 0:
                    raise ValueError(f"what it says of {name!r} cannot be")
                n_blocks += -(-entry["bytes"] // BLOCK_BYTES)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(self.folder / META, f"its list of files cannot be used ({error})") from error
        if not path.is_file() or path.stat().st_size != 8 * n_blocks or sha256_file(path) != expected:
            raise DamagedError(path, "it is missing or its contents changed")
        return np.fromfile(path, dtype="<u8")

    def __contains__(self, name: str) -> bool:
        return name in self.meta["files"]

    def arrays(self, name: str) -> ArrayFile:
        """Return the arrays of a file, opened once, and again where it was found damaged: it may be repaired by now."""
        found = self._open.get(name)
        if found is None or found.damaged:
            with self._lock:
                found = self._open.get(name)
                if found is None or found.damaged:
                    n_bytes = int(self.meta["files"][name]["bytes"]) if name in self else None
                    found = ArrayFile(self.folder / name, self.checks(name), n_bytes)
                    self._open[name] = found
        return found

    def path(self, name: str) -> Path:
        """Return the path of a file, all of it checked the first time.

        Raises:
            DamagedError: it changed since it was written.
        """
        path = self.folder / name
        if name not in self._whole:
            if problem := self._size_problem(name):
                raise DamagedError(path, problem)
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

    def damage(self, told: Callable[[str], None] = lambda name: None) -> list[Damage]:
        """Read every byte and return what is not as it was written; `told` hears of each file before it is read."""
        found = []
        for name in self.meta["files"]:
            told(name)
            if problem := self._size_problem(name):
                found.append(Damage(name, problem))
                continue
            blocks = damaged_blocks(self.folder / name, self.checks(name))
            found += [Damage(name, "its contents changed", start, stop) for start, stop in blocks]
        copy, meta = self.folder / COPY, self.folder / META
        if not copy.is_file() or copy.read_bytes() != meta.read_bytes():
            found.append(Damage(COPY, "it is missing or its contents changed"))
        known = {*self.meta["files"], META, COPY, CHECKS}
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            if (name := path.relative_to(self.folder).as_posix()) not in known:
                found.append(Damage(name, "it does not belong here"))
        return found

    def restore(self, name: str, candidate: Path) -> None:
        """Put a file back as it was written, from a candidate and from what is whole of the file itself.

        Every 64 KiB are taken from whichever of the two has their checksum.

        Raises:
            DamagedError: a stretch is whole in neither; nothing was changed.
        """
        path, size = self.folder / name, int(self.meta["files"][name]["bytes"])
        with contextlib.ExitStack() as stack, atomic_path(path) as temporary, open(temporary, "wb") as out:
            sources = [stack.enter_context(open(each, "rb")) for each in (candidate, path) if each.is_file()]
            for number, check in enumerate(self.checks(name).tolist()):
                start, stop = number * BLOCK_BYTES, min(size, (number + 1) * BLOCK_BYTES)
                blocks = (_stretch(source, start, stop) for source in sources)
                good = next((block for block in blocks if xxhash.xxh3_64_intdigest(block) == check), None)
                if good is None:
                    raise DamagedError(path, "what was computed anew differs from what was there", start, stop)
                out.write(good)

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


def restore_lists(folder: Path, *, format: str, version: int) -> list[str]:
    """Restore whichever of `meta.json`, its copy and `checks.bin` is damaged; return the names of those that were.

    Raises:
        OtoscopeError: of another format or version.
        DamagedError: both copies of `meta.json` are damaged, or `checks.bin` and a file that it would be made from.
    """
    restored, copies = [], (folder / META, folder / COPY)
    good = [path for path in copies if _is_whole(path, format, version)]
    if not good:
        read_sealed(folder / META, format=format, version=version)
    for path in copies:
        if path not in good:
            with atomic_path(path) as temporary:
                temporary.write_bytes(good[0].read_bytes())
            restored.append(path.name)
    meta, path = read_sealed(folder / META, format=format, version=version), folder / CHECKS
    if path.is_file() and sha256_file(path) == meta["checks"]["sha256"]:
        return restored
    found = np.concatenate([np.zeros(0, np.uint64), *(block_checks(folder / name) for name in meta["files"])])
    if hashlib.sha256(found.astype("<u8").tobytes()).hexdigest() != meta["checks"]["sha256"]:
        raise DamagedError(path, "its contents changed, and so did a file that it could be made from: build it again")
    with atomic_path(path) as temporary:
        found.astype("<u8").tofile(temporary)
    return [*restored, CHECKS]


def _is_whole(path: Path, format: str, version: int) -> bool:
    try:
        read_sealed(path, format=format, version=version)
    except OtoscopeError:
        return False
    return True


def _stretch(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)


def _to_disk(path: Path) -> None:
    """Have the system write a file or the names in a folder to the disk itself (Windows has no way for folders)."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
