"""CTM, a word or phone per line: `recording channel begin length label [confidence]`, of NIST and of Kaldi.

Source: the CTM section of the NIST SCTK documentation (`infmts.htm`); Kaldi writes the same columns.
"""

from __future__ import annotations

from collections.abc import Iterator

from otoscope.audio.clip import Tiers
from otoscope.audio.labels.tiers import Mark, at
from otoscope.audio.problems import Problems
from otoscope.errors import InputError

COLUMNS = "recording channel begin length label [confidence]"


def parse(content: str, place: str, problems: Problems, tier: str) -> dict[str, list[Mark]]:
    """Return the marks of each recording in the file; of alternatives the first is taken.

    Where a recording has several channels, each gets a tier of its own, `words channel B`.
    """
    found: dict[str, dict[str, list[Mark]]] = {}
    alternative = 0
    for number, line in enumerate(content.split("\n"), 1):
        cells = line.split()
        if not cells or cells[0].startswith(";;") or cells[0].startswith("#"):
            continue
        if len(cells) >= 5 and cells[4] in ("<ALT_BEGIN>", "<ALT>", "<ALT_END>"):
            alternative = {"<ALT_BEGIN>": 1, "<ALT>": alternative + 1, "<ALT_END>": 0}[cells[4]]
            continue
        if alternative > 1:
            continue
        with problems.item(at(place, number)):
            recording, channel, mark = _mark(cells, number, tier)
            found.setdefault(recording, {}).setdefault(channel, []).append(mark)
    return {recording: list(_by_channel(channels, tier)) for recording, channels in found.items()}


def _mark(cells: list[str], number: int, tier: str) -> tuple[str, str, Mark]:
    if len(cells) < 5:
        raise InputError(f"it has {len(cells)} columns where a CTM has {COLUMNS}")
    try:
        begin_s, length_s = float(cells[2]), float(cells[3])
    except ValueError:
        raise InputError(f"begin and length must be seconds, not {cells[2]!r} and {cells[3]!r}") from None
    end_s = round(begin_s + length_s, 9)  # the sum of two decimals is a decimal
    return cells[0], cells[1], Mark(tier, begin_s, end_s, cells[4], number)


def _by_channel(channels: dict[str, list[Mark]], tier: str) -> Iterator[Mark]:
    for channel, marks in channels.items():
        for mark in marks:
            yield mark if len(channels) == 1 else mark._replace(tier=f"{tier} channel {channel}")


def lines(tiers: Tiers, tier: str, recording: str) -> list[str]:
    """Return the lines of one tier of one recording.

    Raises:
        InputError: a label or the recording's name has a space in it, which the columns of a CTM cannot hold.
    """
    if recording.split() != [recording]:
        raise InputError(f"the recording {recording!r} has a space in its name, which a CTM cannot hold")
    written = []
    for interval in tiers.get(tier, ()):
        if interval.label.split() != [interval.label]:
            raise InputError(
                f"the label {interval.label!r} at {interval.start_s:g} s has a space, which a CTM cannot hold; "
                "write TextGrid or JSON"
            )
        length_s = round(interval.end_s - interval.start_s, 6)
        written.append(f"{recording} 1 {seconds(interval.start_s)} {seconds(length_s)} {interval.label}")
    return written


def seconds(value: float) -> str:
    """Print seconds to the microsecond, at least two decimals."""
    text = f"{value:.6f}".rstrip("0")
    return text + "0" * max(0, 2 - len(text.partition(".")[2]))
