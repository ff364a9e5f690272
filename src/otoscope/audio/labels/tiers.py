"""From the marks of a file of times to tiers: names, order, and what no tier may hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from otoscope.audio.clip import Interval, Tiers
from otoscope.audio.problems import Problems

NAMES: Mapping[str, tuple[str, ...]] = {
    "words": ("words", "word", "orthography", "orthographic", "ort", "ort-mau", "tokens", "wrd"),
    "phones": ("phones", "phone", "phonetic", "mau", "phn", "phonemes", "phoneme", "sampa"),
    "events": ("events", "event", "sounds", "sound"),
    "phrases": ("phrases", "phrase", "utterances", "utterance", "sentences", "sentence", "segments"),
}
"""How formats and people call our tiers, whatever the case. Where a file has several of one row, the first of the row
gets our name and the others keep theirs."""

ROUNDING_S = 0.011
"""Neighbours may overlap by as much as times with two decimals do, of which begin and length are both rounded."""
SHARED_PHONE_S = 0.2
"""Neighbouring words may share less than this: hand-made alignments (TIMIT, EMU) give a phone on the border to both."""
EXCLUSIVE = frozenset({"words", "phones"})
"""Tiers of which one label holds at a time; sounds, phrases and the rest may overlap."""

_PARALLEL = re.compile(r"(.+)#\d+")
_SPEAKER_TIER = re.compile(r"(.+) - (words|phones)", re.IGNORECASE)


class Mark(NamedTuple):
    """A label as it stands in a file; `where` is its line, or its path in JSON."""

    tier: str
    start_s: float
    end_s: float
    label: str
    where: int | str


def tiers_from_marks(marks: Iterable[Mark], place: str, problems: Problems) -> Tiers:
    """Return the tiers of the marks: blank labels left out, in order of time, under our names.

    Marks that no tier may hold (negative or infinite times, an end before the start, an overlap in words or phones)
    are noted with their line and left out.
    """
    by_name: dict[str, list[Mark]] = {}
    for mark in marks:
        label = mark.label.strip()
        if not 0 <= mark.start_s <= mark.end_s < math.inf:
            problems.add(at(place, mark.where), f"{mark.tier} {label!r} {_fault(mark)}")
        elif label:
            by_name.setdefault(mark.tier, []).append(mark if label == mark.label else mark._replace(label=label))
    found: dict[str, list[Mark]] = {}
    for name, own in by_name.items():
        found.setdefault(_plain_name(name), []).extend(own)
    names = _our_names(list(found))
    return {names[tier]: _in_order(names[tier], found[tier], place, problems) for tier in found}


def at(place: str, where: int | str) -> str:
    """Return the place of a line of a file, or of a path in it."""
    return f"{place}, line {where}" if isinstance(where, int) else f"{place}, {where}" if where else place


def _fault(mark: Mark) -> str:
    if not (math.isfinite(mark.start_s) and math.isfinite(mark.end_s)):
        return f"has a time that is not a number of seconds ({mark.start_s:g} to {mark.end_s:g})"
    if mark.start_s < 0:
        return f"starts before the recording, at {mark.start_s:g} s"
    return f"ends before it starts ({mark.start_s:g} to {mark.end_s:g} s)"


def _plain_name(tier: str) -> str:
    """Tiers that overlap are written side by side as `name`, `name#2`…; they are one tier again when read."""
    match = _PARALLEL.fullmatch(tier.strip())
    return match[1] if match else tier.strip()


def _our_names(found: list[str]) -> dict[str, str]:
    names = {tier: tier for tier in found}
    spoken = {tier: match for tier in found if (match := _SPEAKER_TIER.fullmatch(tier))}
    one_speaker = len({match[1] for match in spoken.values()}) == 1  # the Montreal aligner names tiers by speaker
    plain = {tier: match[2] for tier, match in spoken.items() if one_speaker}
    lower = {plain.get(tier, tier).lower(): tier for tier in reversed(found)}
    for ours, theirs in NAMES.items():
        first = next((lower[alias] for alias in theirs if alias in lower), None)
        if first is not None:
            names[first] = ours
    taken: set[str] = set()
    for tier in found:  # "Words" beside "words": each keeps a name of its own
        while names[tier] in taken:
            names[tier] += "'"
        taken.add(names[tier])
    return names


def our_name(tier: str) -> str:
    """Return our name of a tier that stands alone."""
    return _our_names([tier])[tier]


def _in_order(name: str, marks: list[Mark], place: str, problems: Problems) -> tuple[Interval, ...]:
    marks.sort(key=lambda mark: (mark.start_s, mark.end_s))
    if name not in EXCLUSIVE:
        return tuple(Interval(mark.start_s, mark.end_s, mark.label) for mark in marks)
    kept: list[Mark] = []
    for mark in marks:
        if kept and kept[-1].end_s > mark.start_s and not _may_follow(name, kept[-1], mark):
            problems.add(at(place, mark.where), overlap(name, kept[-1], mark))
        else:
            kept.append(mark)
    return tuple(Interval(mark.start_s, mark.end_s, mark.label) for mark in kept)


def _may_follow(name: str, before: Mark, mark: Mark) -> bool:
    shared_s = before.end_s - mark.start_s
    if shared_s <= ROUNDING_S:
        return True
    longer_s = max(before.end_s - before.start_s, mark.end_s - mark.start_s)
    staggered = before.start_s < mark.start_s and before.end_s < mark.end_s
    return name == "words" and staggered and shared_s < min(SHARED_PHONE_S, longer_s / 2)


def overlap(name: str, before: Mark, mark: Mark) -> str:
    """Say that a mark overlaps the one before it."""
    return (
        f"{name} {mark.label!r} ({mark.start_s:g} to {mark.end_s:g} s) overlaps "
        f"{before.label!r} ({before.start_s:g} to {before.end_s:g} s)"
    )
