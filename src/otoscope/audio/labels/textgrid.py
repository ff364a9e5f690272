"""Praat TextGrid, long and short: both are the same sequence of texts, numbers and flags with words in between.

Source: the TextGrid file formats chapter of the Praat manual.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from otoscope.audio.clip import Interval, Tiers
from otoscope.audio.labels.tiers import ROUNDING_S, Mark, at, overlap
from otoscope.audio.problems import Problems
from otoscope.errors import InputError

_TOKENS = re.compile(
    r"""
    (?:[A-Za-z?=\[:][^"\s]*\s+)*  # words such as `intervals [3]:` and `xmin =` mean nothing
    (?: "(?P<text>[^"]*(?:""[^"]*)*)"
      | (?P<number>[-+]?[\d.][\d.eE+-]*)(?!\S)
      | (?P<flag><exists>|<absent>)
      | ![^\n]*
      | [^"\s]+
    )\s*
    """,
    re.VERBOSE,
)


class _Reader:
    """The texts, numbers and flags of a file, one after the other, and the line of the last one."""

    def __init__(self, content: str) -> None:
        self._content = content
        self._matches = _TOKENS.finditer(content)
        self._seen = 0
        self.line = 1

    def _next(self, kind: str, what: str) -> str:
        for match in self._matches:
            if match.lastgroup is None:
                continue
            start = match.start(match.lastgroup)
            self.line += self._content.count("\n", self._seen, start)
            self._seen = start
            if match.lastgroup != kind:
                raise InputError(f"line {self.line} should hold {what}, not {match[match.lastgroup][:30]!r}")
            return match[kind]
        raise InputError(f"it ends where {what} should follow; copy or export it again")

    def text(self, what: str) -> str:
        return self._next("text", what).replace('""', '"')

    def number(self, what: str) -> float:
        found = self._next("number", what)
        try:
            return float(found)
        except ValueError:
            raise InputError(f"line {self.line} should hold {what}, not {found!r}") from None

    def count(self, what: str) -> int:
        found = self.number(what)
        if not (found >= 0 and found.is_integer()):
            raise InputError(f"line {self.line} should hold {what}, not {found:g}")
        return int(found)

    def flag(self) -> bool:
        return self._next("flag", "<exists>") == "<exists>"


def parse(content: str, place: str, problems: Problems) -> Iterator[Mark]:
    """Yield the marks of a TextGrid; intervals of a tier that overlap are noted and left out.

    Raises:
        InputError: not a TextGrid, or damaged.
    """
    if content.startswith("ooBinaryFile"):
        raise InputError("it is a binary TextGrid; save it in Praat as a text file")
    reader = _Reader(content)
    if not reader.text("the kind of file").startswith("ooTextFile") or reader.text("its class") != "TextGrid":
        raise InputError('it does not begin as a TextGrid (File type = "ooTextFile", Object class = "TextGrid")')
    reader.number("the start of the recording")
    reader.number("its end")
    if not reader.flag():
        return
    for _ in range(reader.count("the number of tiers")):
        kind = reader.text("the class of a tier")
        if kind not in ("IntervalTier", "TextTier"):
            raise InputError(f"line {reader.line}: there is no tier of class {kind!r}")
        name = reader.text("the name of a tier")
        reader.number("the start of the tier")
        reader.number("its end")
        size = reader.count("the number of its intervals")
        if kind == "IntervalTier":
            yield from _intervals(reader, name, size, place, problems)
        else:
            for _ in range(size):
                time_s = reader.number(f"the time of a point of {name!r}")
                line = reader.line
                yield Mark(name, time_s, time_s, reader.text("its text"), line)


def _intervals(reader: _Reader, name: str, size: int, place: str, problems: Problems) -> Iterator[Mark]:
    before: Mark | None = None
    for _ in range(size):
        start_s = reader.number(f"the start of an interval of {name!r}")
        line = reader.line
        end_s = reader.number("its end")
        mark = Mark(name, start_s, end_s, reader.text("its text"), line)
        if before is not None and mark.label.strip() and before.end_s - start_s > ROUNDING_S and start_s <= end_s:
            problems.add(at(place, line), overlap(name, before, mark))
            continue
        if mark.label.strip() and start_s <= end_s:
            before = mark
        yield mark


def write(tiers: Tiers, duration_s: float) -> str:
    """Return a long TextGrid; labels without length become point tiers, overlapping ones stand in parallel tiers."""
    last_s = max((i.end_s for tier in tiers.values() for i in tier), default=0.0)
    end_s = max(duration_s, last_s)
    blocks = []
    for name, tier in tiers.items():
        points = [i for i in tier if i.end_s == i.start_s]
        lanes = _lanes([i for i in tier if i.end_s > i.start_s])
        for n, lane in enumerate(lanes):
            blocks.append(_interval_tier(name if n == 0 else f"{name}#{n + 1}", lane, end_s))
        if points:
            blocks.append(_point_tier(f"{name}#{len(lanes) + 1}" if lanes else name, points, end_s))
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end_s!r}"]
    head += ["tiers? <exists>", f"size = {len(blocks)}", "item []:"]
    lines = [line for n, block in enumerate(blocks) for line in (f"    item [{n + 1}]:", *block)]
    return "\n".join([*head, *lines]) + "\n"


def _lanes(intervals: list[Interval]) -> list[list[Interval]]:
    """Deal intervals out to as few rows as hold them without an overlap."""
    lanes: list[list[Interval]] = []
    for interval in sorted(intervals, key=lambda i: (i.start_s, i.end_s)):
        free = next((lane for lane in lanes if lane[-1].end_s <= interval.start_s), None)
        if free is None:
            lanes.append([interval])
        else:
            free.append(interval)
    return lanes


def _head(kind: str, name: str, end_s: float, what: str, size: int) -> list[str]:
    lines = [
        f'class = "{kind}"',
        f'name = "{_quoted(name)}"',
        "xmin = 0",
        f"xmax = {end_s!r}",
        f"{what}: size = {size}",
    ]
    return [f"        {line}" for line in lines]


def _interval_tier(name: str, intervals: list[Interval], end_s: float) -> list[str]:
    filled: list[Interval] = []
    at_s = 0.0
    for interval in intervals:
        if interval.start_s > at_s:
            filled.append(Interval(at_s, interval.start_s, ""))
        filled.append(interval)
        at_s = interval.end_s
    if end_s > at_s:
        filled.append(Interval(at_s, end_s, ""))
    lines = _head("IntervalTier", name, end_s, "intervals", len(filled))
    for n, i in enumerate(filled):
        lines += [
            f"        intervals [{n + 1}]:",
            f"            xmin = {i.start_s!r}",
            f"            xmax = {i.end_s!r}",
            f'            text = "{_quoted(i.label)}"',
        ]
    return lines


def _point_tier(name: str, points: list[Interval], end_s: float) -> list[str]:
    lines = _head("TextTier", name, end_s, "points", len(points))
    for n, point in enumerate(sorted(points, key=lambda i: i.start_s)):
        lines += [
            f"        points [{n + 1}]:",
            f"            number = {point.start_s!r}",
            f'            mark = "{_quoted(point.label)}"',
        ]
    return lines


def _quoted(text: str) -> str:
    return text.replace('"', '""')
