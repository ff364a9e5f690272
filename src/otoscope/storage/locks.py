"""Locks between processes: one writer at a time, and a dead one never stands in the way.

A lock is a file that the operating system locks for its holder (`flock`) and frees when the holder ends, however it
ends. The file names the holder, so that whoever is refused learns whom to wait for, and goes away with the lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from otoscope.errors import OtoscopeError
from otoscope.storage.files import plain_os_errors


@contextlib.contextmanager
def only_one(path: str | os.PathLike[str], what: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path` while the block runs.

    Other processes and other threads of this one are kept out. Windows has no such locks: there, nobody is.

    Args:
        path: the lock file, in a folder that exists or can be made; it lies there only while somebody holds it.
        what: what the holder does, as it should read in "Another otoscope (process 12, since 14:02:51) is …".
        wait: wait until the lock is free instead of refusing.

    Raises:
        OtoscopeError: somebody else holds it, and `wait` is False; or the lock file cannot be written.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = Path(path)
    how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    while True:
        with plain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        with file:
            try:
                fcntl.flock(file, how)
            except BlockingIOError:
                raise OtoscopeError(_refusal(file, what)) from None
            except OSError as error:
                raise OtoscopeError(f"Could not lock {path}: {error.strerror or error}.") from error
            if not _lies_at(file, path):
                continue  # the holder before took the file away with its lock
            try:
                _sign(file, what)
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _lies_at(file: IO[str], path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(file: IO[str], what: str) -> None:
    """Write down who holds the lock."""
    file.truncate(0)
    json.dump({"process": os.getpid(), "machine": platform.node(), "since": time.time(), "what": what}, file)
    file.flush()


def _refusal(file: IO[str], what: str) -> str:
    """Say who holds the lock, as far as its file tells."""
    who = ""
    with contextlib.suppress(ValueError, KeyError, TypeError, OSError, OverflowError):
        file.seek(0)
        holder = json.loads(file.read())
        since = time.localtime(holder["since"])
        clock = "%H:%M:%S" if since[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M:%S"
        machine = "" if holder["machine"] == platform.node() else f" on {holder['machine']}"
        who = f" (process {int(holder['process'])}{machine}, since {time.strftime(clock, since)})"
        what = str(holder["what"])
    return f"Another otoscope{who} is {what}; wait for it to finish."
