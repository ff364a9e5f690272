"""The journal of a harvest: one line for the job, one per finished shard, appended after the shard is on disk."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from otoscope.activations.shards import is_whole
from otoscope.errors import InputError, OtoscopeError

FORMAT, VERSION = "otoscope-harvest", 1
FILE = "journal.jsonl"
_MEANING = {
    "weights_hash": "model",
    "audio_fingerprint": "corpus or other sound",
    "sites": "choice of sites",
    "compute_dtype": "arithmetic",
}


class Journal:
    """The job and its finished shards; what is in it is trusted, whatever else is in the folder is not.

    A line that was cut by a crash is dropped, and so are lines from the first shard that is not whole on disk.
    """

    def __init__(self, folder: Path, job: dict[str, Any], shards: list[dict[str, Any]], file: IO[bytes]) -> None:
        self.folder, self.job, self.shards, self._file = folder, job, shards, file

    @classmethod
    def open(cls, folder: Path, job: Mapping[str, Any]) -> Self:
        """Begin or go on with `job` in `folder`; keys of `job` that are None are taken from an earlier run.

        Raises:
            InputError: another job was begun there (says what differs), or another process is at it.
            OtoscopeError: the folder cannot be written.
        """
        path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+b")  # noqa: SIM115 (held open: it carries the lock)
        except OSError as error:
            raise OtoscopeError(f"Could not write {path}: {error.strerror or error}.") from error
        try:
            _lock(file, folder)
            lines, end = _whole_lines(file)
            if len(lines) < 2 or lines[0].get("format") != FORMAT:  # nothing is lost by starting over
                journal = cls(folder, dict(job), [], file)
                journal._cut(0)
                return journal
            earlier = dict(lines[0]["job"])
            check_same_job(folder, earlier, job)
            journal = cls(folder, earlier, lines[1:], file)
            journal._cut(end)
            journal._drop_damaged()
            return journal
        except BaseException:
            file.close()
            raise

    def begin(self, defaults: Mapping[str, Any]) -> None:
        """Write the line of the job, its open settings filled from `defaults`, unless it is there already."""
        if self._file.seek(0, os.SEEK_END):
            return
        self.job = {key: defaults.get(key) if value is None else value for key, value in self.job.items()}
        self._write({"format": FORMAT, "version": VERSION, "job": self.job})

    def add(self, shard: dict[str, Any]) -> None:
        """Record a shard whose files are on disk."""
        self._write(shard)
        self.shards.append(shard)

    def close(self) -> None:
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OtoscopeError(
                    f"The disk is full: could not write {self.folder / FILE}; free some space and run the same "
                    "command again."
                ) from error
            raise OtoscopeError(f"Could not write {self.folder / FILE}: {error.strerror or error}.") from error

    def _cut(self, n_bytes: int) -> None:
        self._file.truncate(n_bytes)

    def _drop_damaged(self) -> None:
        for i, shard in enumerate(self.shards):
            if all(is_whole(self.folder / site / e["file"], e) for site, e in shard["files"].items()):
                continue
            self._file.seek(0)
            kept = self._file.read().splitlines(keepends=True)[: 1 + i]
            self._cut(sum(map(len, kept)))
            del self.shards[i:]
            return


def check_same_job(folder: Path, earlier: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    """Refuse to mix two jobs in one folder.

    Raises:
        InputError: says which setting differs.
    """
    for key, value in job.items():
        if value is not None and _unordered(earlier.get(key)) != _unordered(value):
            raise InputError(
                f"{folder} holds a harvest with another {_MEANING.get(key, key)} ({_short(earlier.get(key))} instead "
                f"of {_short(value)}); harvest to another folder or delete that one."
            )


def _unordered(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:12] + "…"


def _whole_lines(file: IO[bytes]) -> tuple[list[dict[str, Any]], int]:
    """Return the objects of the leading whole lines and where they end."""
    file.seek(0)
    lines, end = [], 0
    for raw in file:
        if not raw.endswith(b"\n"):
            break
        try:
            line = json.loads(raw)
        except ValueError:
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
        end += len(raw)
    return lines, end


def _lock(file: IO[bytes], folder: Path) -> None:
    """Hold the folder until the file is closed; systems without `fcntl` go without."""
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"Another process is harvesting to {folder}; wait for it or stop it.") from None
