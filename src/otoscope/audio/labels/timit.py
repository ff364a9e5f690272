"""Times in samples of 16 kHz, `begin end label` per line: the .PHN and .WRD files of TIMIT."""

from __future__ import annotations

from collections.abc import Iterator

from otoscope.audio.labels.tiers import Mark, at
from otoscope.audio.problems import Problems
from otoscope.errors import InputError

RATE_HZ = 16000


def parse(content: str, place: str, problems: Problems, tier: str) -> Iterator[Mark]:
    """Yield the marks of one file."""
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        with problems.item(at(place, number)):
            cells = line.split(maxsplit=2)
            try:
                begin, end = int(cells[0]), int(cells[1])
            except (ValueError, IndexError):
                raise InputError(f"it is not begin and end in samples and a label: {line[:60]!r}") from None
            yield Mark(tier, begin / RATE_HZ, end / RATE_HZ, cells[2] if len(cells) > 2 else "", number)
