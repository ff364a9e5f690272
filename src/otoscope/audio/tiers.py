"""Tiers of a clip in little memory: times in one array, labels shared, intervals made when they are asked for.

Ten thousand clips hold a quarter of a million intervals; as objects these would take more room than all else about a
corpus.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Interval:
    """A label from `start_s` to `end_s`, in seconds from the start of its clip."""

    start_s: float
    end_s: float
    label: str


Tiers = Mapping[str, tuple[Interval, ...]]


class PackedTiers(Mapping[str, tuple[Interval, ...]]):
    """Read-only tiers, equal to any mapping of the same names to the same intervals.

    Args:
        bounds: of each tier its name, its first interval and the one after its last, in the two others.
        times: start and end of every interval in seconds, `[2 n]`.
        labels: labels of every interval, `[n]`.
    """

    __slots__ = ("_bounds", "_labels", "_times")

    def __init__(self, bounds: tuple[tuple[str, int, int], ...], times: array[float], labels: tuple[str, ...]) -> None:
        self._bounds, self._times, self._labels = bounds, times, labels

    def __getitem__(self, name: str) -> tuple[Interval, ...]:
        for own, first, stop in self._bounds:
            if own == name:
                return self._made(own, first, stop)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(own == name for own, _, _ in self._bounds)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _, _ in self._bounds)

    def __len__(self) -> int:
        return len(self._bounds)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return packed, (dict(self),)

    def _made(self, name: str, first: int, stop: int) -> tuple[Interval, ...]:
        """The intervals of a tier; those made last are kept, as whoever reads a clip asks for them more than once."""
        place = (id(self) // 16 + len(name)) % len(_RECENT)
        recent = _RECENT[place]
        if recent is not None and recent[0] is self and recent[1] == name:
            return recent[2]
        times = self._times[2 * first : 2 * stop].tolist()
        made = tuple(map(Interval, times[::2], times[1::2], self._labels[first:stop]))
        _RECENT[place] = self, name, made
        return made


_RECENT: list[tuple[PackedTiers, str, tuple[Interval, ...]] | None] = [None] * 32
"""Each place is read and written as a whole, so that threads need no lock."""


def packed(tiers: Tiers) -> Tiers:
    """Return tiers in little memory; as they are, if they hold what cannot be kept exactly (whole numbers as times)."""
    if isinstance(tiers, PackedTiers):
        return tiers
    bounds: list[tuple[str, int, int]] = []
    times: array[float] = array("d")
    labels: list[str] = []
    for name, tier in tiers.items():
        if type(tier) is not tuple:
            return tiers
        bounds.append((name, len(labels), len(labels) + len(tier)))
        for each in tier:
            if type(each) is not Interval or type(each.label) is not str:
                return tiers
            span = (each.start_s, each.end_s)
            if not all(isinstance(time_s, float) for time_s in span):
                return tiers
            times.extend(span)
            labels.append(sys.intern(each.label))
    return PackedTiers(tuple(bounds), times, tuple(labels)) if bounds else NO_TIERS


NO_TIERS = PackedTiers((), array("d"), ())
