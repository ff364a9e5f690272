"""Writing files so that a crash, a full disk or Ctrl-C never leaves something half-written that is later trusted."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from otoscope.errors import OtoscopeError


@contextlib.contextmanager
def plain_os_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors for `path` into one sentence.

    Raises:
        OtoscopeError: instead of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OtoscopeError(
                f"The disk is full: could not write {path}; free some space and run the same command again."
            ) from error
        raise OtoscopeError(f"Could not write {path}: {error.strerror or error}.") from error


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file beside `path` that becomes `path` when the block ends without an error.

    Raises:
        OtoscopeError: the disk is full or the folder cannot be written.
    """
    final = Path(path)
    with plain_os_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.name}.", suffix=".part")
        os.close(handle)
    temporary = Path(name)
    try:
        with plain_os_errors(final):
            yield temporary
            os.chmod(temporary, 0o644)
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that replaces `path` when the block ends without an error.

    Raises:
        OtoscopeError: the disk is full or the folder cannot be written.
    """
    final = Path(path)
    with plain_os_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.", suffix=".part"))
    try:
        with plain_os_errors(final):
            yield temporary
            os.chmod(temporary, 0o755)
            if final.exists():
                shutil.rmtree(final)
            os.replace(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def link_or_copy(path: Path, to: Path) -> None:
    """Give a file a second name; copy it where the file system has no such thing."""
    try:
        os.link(path, to)
    except OSError:
        shutil.copyfile(path, to)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str], *, format: str, version: int) -> dict[str, Any]:
    """Read a JSON object that says `format` and `version`, and refuse anything else.

    Raises:
        OtoscopeError: missing, damaged, of another format, or written by a newer version.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OtoscopeError(f"{path} does not exist; expected an {format} there.") from None
    except (OSError, ValueError) as error:
        raise OtoscopeError(f"{path} is damaged and cannot be read ({error}).") from error
    if not isinstance(value, dict) or value.get("format") != format:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise OtoscopeError(f"{path} is not an {format} (found {found!r}).")
    if value.get("version") != version:
        raise OtoscopeError(f"{path} has version {value.get('version')!r}; this program reads version {version}.")
    return value


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
