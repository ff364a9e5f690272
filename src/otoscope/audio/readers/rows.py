"""Lines and rows of text files, with their places; what is not UTF-8 is noted and left out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from otoscope.audio.problems import Problems
from otoscope.errors import InputError


def lines(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    """Yield each line that is not blank with its number, without its end.

    Raises:
        InputError: the file cannot be read.
    """
    for number, line in _decoded(path, problems):
        if line.strip():
            yield number, line.rstrip("\r\n")


def rows(
    path: Path, problems: Problems, *, delimiter: str = ",", quoted: bool = True
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row of a table with its place; rows with more cells than columns are noted and left out.

    Raises:
        InputError: the file cannot be read.
    """
    numbers: list[int] = []

    def content() -> Iterator[str]:
        for number, line in _decoded(path, problems):
            numbers.append(number)
            yield line

    if quoted:
        reader = csv.reader(content(), delimiter=delimiter)
    else:
        reader = csv.reader(content(), delimiter=delimiter, quoting=csv.QUOTE_NONE)
    columns: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problems.add(f"{path}, line {numbers[-1]}", str(error))
            continue
        if cells is None:
            return
        if not cells:
            continue
        if columns is None:
            columns = [name.strip() for name in cells]
            continue
        where = f"{path}, line {numbers[reader.line_num - 1]}"
        if len(cells) > len(columns):
            problems.add(where, f"more cells than columns ({len(cells)} for {len(columns)})")
            continue
        yield where, dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=True))


def _decoded(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            yield number, line.decode("utf-8") + "\n"
        except UnicodeDecodeError as error:
            problems.add(
                f"{path}, line {number}",
                f"byte 0x{line[error.start]:02x} is not UTF-8 ({line[:40]!r}); save the file as UTF-8",
            )
