"""`begin end label` per line: .PHN and .WRD of TIMIT (samples of 16 kHz), .lab of HTK (units of 100 ns)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from otoscope.audio.labels.tiers import Mark, at
from otoscope.audio.problems import Problems
from otoscope.errors import InputError

TIMIT_HZ = 16000
HTK_HZ = 10_000_000
_TIMES = re.compile(r"\s*\d+\s+\d+\s+\S")


def looks_like(content: str) -> bool:
    """Whether text begins with times, and not as a transcript."""
    return _TIMES.match(content) is not None


def parse(content: str, place: str, problems: Problems, tier: str, units_hz: int = TIMIT_HZ) -> Iterator[Mark]:
    """Yield the marks of one file, whose times count units of `1 / units_hz` seconds."""
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        with problems.item(at(place, number)):
            cells = line.split(maxsplit=2)
            try:
                begin_s, end_s = int(cells[0]) / units_hz, int(cells[1]) / units_hz
            except (ValueError, IndexError, OverflowError):
                raise InputError(f"it is not begin and end as whole numbers and a label: {line[:60]!r}") from None
            yield Mark(tier, begin_s, end_s, cells[2] if len(cells) > 2 else "", number)


def parse_htk(content: str, place: str, problems: Problems, tier: str) -> Iterator[Mark]:
    """Yield the marks of a label file of HTK."""
    return parse(content, place, problems, tier, HTK_HZ)
