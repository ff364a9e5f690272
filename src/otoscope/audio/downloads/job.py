"""Downloading a corpus: room checked, fetched, verified, unpacked, written down; run again, it goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from otoscope.audio.downloads.fetching import Remote, Wait, fetch, forget
from otoscope.audio.downloads.sources import RemoteFile, Source, source
from otoscope.audio.downloads.unpacking import unpack
from otoscope.errors import InputError, OtoscopeError
from otoscope.progress import Advance, ProgressReport, track
from otoscope.storage import sha256_file, write_json

FORMAT, VERSION = "otoscope-download", 1
_NOTES = ".otoscope"  # beside the corpus: part files, and what came from where
_MEGABYTE = 10**6


def download(
    name: str | Source,
    to: str | os.PathLike[str] | None = None,
    *,
    progress: bool | ProgressReport = False,
    keep_archives: bool = False,
    again: bool = False,
    wait: Wait = time.sleep,
) -> Path:
    """Download a public corpus into the folder `to` (default: one of its name) and return the folder to open.

    Interrupted, it goes on where it stopped when called again; finished, it returns at once (`again` checks the source
    anew and restores missing files). Nothing that exists in the folder is overwritten or deleted. Where the source
    publishes no checksum, the SHA-256 of what first came is kept and must not change. `SOURCES` lists names, sizes and
    licences; `wait` sleeps between attempts.

    Raises:
        InputError: the name is unknown, or the corpus has to be got by hand (says how).
        OtoscopeError: too little room, the server refuses, a wrong checksum, an unsafe archive.

    Example:
        >>> oto.corpus(oto.download("mini-librispeech-dev-clean-2"))  # doctest: +SKIP
    """
    row = name if isinstance(name, Source) else source(name)
    if row.by_hand is not None:
        raise InputError(row.by_hand)
    folder = Path(to) if to is not None else Path(row.name)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder to download to.")
    notes = folder / _NOTES / row.name
    known = _read_record(folder, row)
    if known.get("finished") and (folder / row.opens).exists() and not again:
        return folder / row.opens
    _refuse_without_room(row, folder, notes)
    with _plain_os_errors(folder):
        notes.mkdir(parents=True, exist_ok=True)
    with _alone(notes):
        told: dict[str, Any] = dict(known.get("files", {}))
        for file in row.files:
            told[file.name] = _get(row, file, folder, notes, told.get(file.name, {}), progress, wait, keep_archives)
            _write_record(folder, row, told, finished=False)
        if not (folder / row.opens).exists():
            raise OtoscopeError(
                f"{row.name} was unpacked to {folder}, but {row.opens} is not there: the source changed."
            )
        _write_record(folder, row, told, finished=True)
    with contextlib.suppress(OSError):
        (notes / "lock").unlink(missing_ok=True)
        notes.rmdir()  # only if nothing is kept there
    return folder / row.opens


def _get(
    row: Source,
    file: RemoteFile,
    folder: Path,
    notes: Path,
    known: dict[str, Any],
    progress: bool | ProgressReport,
    wait: Wait,
    keep_archives: bool,
) -> dict[str, Any]:
    """Fetch, verify and put one file in place; return what to write down about it."""
    ready = _already_there(file, folder, notes)
    remote = Remote(None, known.get("version"))
    if ready is None:
        part = notes / f"{file.name}.part"
        done = part.stat().st_size if part.exists() else 0
        with track(
            f"download {file.name}", _megabytes(file.size_bytes), progress, unit="MB", done=_megabytes(done)
        ) as bar:
            remote = fetch(
                file.url,
                part,
                expected_bytes=file.size_bytes if file.is_exact else None,
                has_checksum=file.checksum is not None,
                advance=_in_megabytes(bar, done),
                wait=wait,
            )
        _verify(file, part, known.get("sha256"))
        ready = notes / file.name
        os.replace(part, ready)
        forget(part)
    facts = {
        "url": file.url,
        "size_bytes": ready.stat().st_size,
        "sha256": sha256_file(ready),
        "version": remote.version,
        "verified": file.checksum or "nothing is published to compare with; kept to notice changes",
    }
    if file.unpack:
        total = _megabytes(file.unpacked_bytes or file.size_bytes)
        with track(f"unpack {file.name}", total, progress, unit="MB") as bar:
            facts["files"] = len(unpack(ready, folder / file.into, advance=_in_megabytes(bar, 0)))
        if not keep_archives and ready.parent == notes:
            ready.unlink()
    else:
        _put(ready, folder / file.into / file.name)
    return facts


def _already_there(file: RemoteFile, folder: Path, notes: Path) -> Path | None:
    """Return a copy that came before: ours, verified when it came, or the user's own if its checksum is right."""
    if (notes / file.name).is_file():
        ours = notes / file.name
        if file.checksum is None or _checksum(ours, file.checksum) == file.checksum:
            return ours
        ours.unlink()
    theirs = folder / file.name
    if file.checksum is not None and theirs.is_file() and theirs.stat().st_size == file.size_bytes:
        return theirs if _checksum(theirs, file.checksum) == file.checksum else None
    return None


def _verify(file: RemoteFile, part: Path, first_sha256: str | None) -> None:
    """Compare with the published checksum, or else with what came the first time; keep nothing wrong."""
    expected = file.checksum or (f"sha256:{first_sha256}" if first_sha256 else None)
    if expected is None:
        return
    found = _checksum(part, expected)
    if found != expected:
        forget(part)
        known_from = "the published one" if file.checksum else "what came the first time"
        raise OtoscopeError(
            f"{file.url} came with checksum {found}, but {known_from} is {expected}: damaged on the way or changed at "
            "the source; it was deleted, run the same command again."
        )


def _checksum(path: Path, like: str) -> str:
    """Return the checksum of a file by the method of another checksum."""
    method = like.partition(":")[0]
    with open(path, "rb") as file:
        return f"{method}:{hashlib.file_digest(file, lambda: hashlib.new(method, usedforsecurity=False)).hexdigest()}"


def _put(ready: Path, there: Path) -> None:
    """Move a file that is no archive into place."""
    there.parent.mkdir(parents=True, exist_ok=True)
    if there.exists():
        if sha256_file(there) != sha256_file(ready):
            raise OtoscopeError(f"{there} exists with other content; nothing was overwritten, move it away.")
        ready.unlink()
    else:
        os.replace(ready, there)


def _refuse_without_room(row: Source, folder: Path, notes: Path) -> None:
    """Refuse before the first byte when the disk cannot hold the archives and what is in them.

    Raises:
        OtoscopeError: says how much is missing.
    """
    here = folder.absolute()
    while not here.exists():
        here = here.parent
    parts = (notes / f"{file.name}.part" for file in row.files)
    needed = row.size_bytes + row.unpacked_bytes - sum(part.stat().st_size for part in parts if part.exists())
    free = shutil.disk_usage(here).free
    if free < needed:
        raise OtoscopeError(
            f"{row.name} needs about {needed / 1e9:.2f} GB on the disk of {here} (archive and content), and "
            f"{free / 1e9:.2f} GB are free; free some or give another folder."
        )


def _record_path(folder: Path, row: Source) -> Path:
    return folder / _NOTES / f"{row.name}.json"


def _read_record(folder: Path, row: Source) -> dict[str, Any]:
    try:
        record = json.loads(_record_path(folder, row).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and record.get("format") == FORMAT else {}


def _write_record(folder: Path, row: Source, files: dict[str, Any], *, finished: bool) -> None:
    facts = {"name": row.name, "title": row.title, "licence": row.licence, "homepage": row.homepage}
    record = {"format": FORMAT, "version": VERSION, **facts, "finished": finished, "files": files}
    write_json(_record_path(folder, row), record)


def _megabytes(n_bytes: int) -> int:
    return n_bytes // _MEGABYTE


def _in_megabytes(advance: Advance, n_bytes: int) -> Callable[[int], None]:
    told = _megabytes(n_bytes)

    def advance_bytes(n: int) -> None:
        nonlocal n_bytes, told
        n_bytes += n
        if _megabytes(n_bytes) != told:
            advance(_megabytes(n_bytes) - told)
            told = _megabytes(n_bytes)

    return advance_bytes


@contextlib.contextmanager
def _alone(notes: Path) -> Iterator[None]:
    """Hold the download until the end; systems without `fcntl` go without.

    Raises:
        OtoscopeError: another process is downloading the same to the same folder.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(notes / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OtoscopeError(f"Another process is downloading to {notes.parent.parent}; wait for it.") from None
        yield


@contextlib.contextmanager
def _plain_os_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OtoscopeError(f"Could not write to {folder}: {error.strerror or error}.") from error
