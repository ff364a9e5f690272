"""Notes as lines of JSON: a file that git merges, and that is taken in as a whole or not at all.

One line per revision, sorted by feature, then by note and time. Lines never change and never go, so every merge is a
union: `*.jsonl merge=union` in `.gitattributes` makes git say so too, and the order of lines does not matter on import.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otoscope.atlas.notes.revision import Revision
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas.notes.note import Note

MAX_BYTES, MAX_LINE = 256 * 2**20, 2**18
LINE_ORDER = "dictionary, fingerprint, feature, created, note, edited, revision"
"""Columns that lines are sorted by: people at work on different features write in different places of the file."""
_MERGE_MARKS = (b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")


@dataclass(frozen=True)
class Imported:
    """What an import brought: lines in the file, revisions that were new, and its notes that are now in conflict."""

    n_lines: int
    n_new: int
    conflicts: tuple[Note, ...]


def read_lines(source: bytes | str | os.PathLike[str]) -> list[Revision]:
    """Read an export (a file, or its bytes), every line or none.

    Raises:
        InputError: the file is missing or too large, or a line is not a revision; says which line and why.
    """
    if not isinstance(source, bytes):
        source = _file(Path(source))
    if len(source) > MAX_BYTES:
        raise InputError(
            f"The notes are {len(source) / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} MB are read at once."
        )
    found = []
    for number, line in enumerate(source.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            try:
                found.append(_read(line))
            except InputError as error:
                raise InputError(
                    f"Line {number} is not a note: {str(error).rstrip('.')}. Nothing was imported."
                ) from None
    return found


def _file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES // 2**20} MB; split it by lines.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); give a file of exported notes.") from None


def _read(line: bytes) -> Revision:
    if line.startswith(_MERGE_MARKS):
        raise InputError(
            "it is the mark of an unfinished git merge; keep the lines of both sides and delete the mark "
            "(`*.jsonl merge=union` in .gitattributes does so by itself)"
        )
    if len(line) > MAX_LINE:
        raise InputError(f"it is {len(line):,} bytes long; at most {MAX_LINE:,} are read")
    try:
        record = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not JSON ({_first_words(error)})") from None
    if not isinstance(record, dict):
        raise InputError("it is not a JSON object")
    return Revision.from_record(record)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _first_words(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).split("\n")[0][:120]
