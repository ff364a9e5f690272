r"""Audacity label tracks: `start<TAB>end<TAB>label`, and below it `\<TAB>low<TAB>high` where a label has frequencies.

Source: "Importing and Exporting Labels" of the Audacity manual.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from otoscope.audio.clip import Tiers
from otoscope.audio.labels.ctm import seconds
from otoscope.audio.labels.tiers import Mark, at
from otoscope.audio.problems import Problems
from otoscope.errors import InputError

_NUMBER = r"-?\d+(?:[.,]\d+)?"
_LABEL = re.compile(rf"\s*({_NUMBER})\t({_NUMBER})(?:\t(.*))?", re.DOTALL)
_FREQUENCIES = re.compile(r"\\\t")


def looks_like(content: str) -> bool:
    """Whether text begins as a label track does, and not as a transcript."""
    return _LABEL.match(content) is not None


def parse(content: str, place: str, problems: Problems, tier: str) -> Iterator[Mark]:
    """Yield the marks of a label track; frequencies are left out."""
    for number, line in enumerate(content.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip() or _FREQUENCIES.match(line):
            continue
        with problems.item(at(place, number)):
            match = _LABEL.fullmatch(line)
            if match is None:
                raise InputError(f"it is not start, tab, end, tab, label: {line[:60]!r}")
            start_s, end_s = (float(match[i].replace(",", ".")) for i in (1, 2))
            yield Mark(tier, start_s, end_s, match[3] or "", number)


def lines(tiers: Tiers, tier: str, recording: str) -> list[str]:
    """Return the lines of one tier; white space inside a label becomes a single space."""
    return [f"{seconds(i.start_s)}\t{seconds(i.end_s)}\t{' '.join(i.label.split())}" for i in tiers.get(tier, ())]
