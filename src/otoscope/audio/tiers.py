"""Tiers of a clip in little memory: times in one array, labels shared, intervals made when they are asked for.

Ten thousand clips hold a quarter of a million intervals; as objects these would take more room than all else about a
corpus. Clips made one by one have tiers of their own; those of a saved corpus are rows of one table.
"""

from __future__ import annotations

import abc
import itertools
import sys
from array import array
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Interval:
    """A label from `start_s` to `end_s`, in seconds from the start of its clip."""

    start_s: float
    end_s: float
    label: str


Tiers = Mapping[str, tuple[Interval, ...]]

_FIELDS = (Interval.__dict__["start_s"].__set__, Interval.__dict__["end_s"].__set__, Interval.__dict__["label"].__set__)


Times: TypeAlias = "npt.NDArray[np.float64] | array[float]"


def _made(times: Times, labels: Iterable[str]) -> tuple[Interval, ...]:
    """Intervals of starts and ends that alternate; field by field, in half the time that their constructor takes."""
    ends = times.tolist()
    made = tuple(map(Interval.__new__, itertools.repeat(Interval, len(ends) // 2)))
    for put, values in zip(_FIELDS, (ends[::2], ends[1::2], labels), strict=True):
        deque(map(put, made, values), maxlen=0)
    return made


class PackedTiers(Mapping[str, tuple[Interval, ...]]):
    """Read-only tiers, equal to any mapping of the same names to the same intervals."""

    __slots__ = ()

    @abc.abstractmethod
    def columns(self, name: str) -> tuple[Times, Iterable[str]]:
        """Return starts and ends of a tier in seconds, alternating `[2 n]`, and its labels, or raise KeyError."""

    @abc.abstractmethod
    def has_empty(self) -> bool:
        """Return whether a tier has no intervals; makes none."""

    def __getitem__(self, name: str) -> tuple[Interval, ...]:
        """The intervals of a tier; those made last are kept, as whoever reads a clip asks for them more than once."""
        place = (id(self) // 16 + len(name)) % len(_RECENT)
        recent = _RECENT[place]
        if recent is not None and recent[0] is self and recent[1] == name:
            return recent[2]
        made = _made(*self.columns(name))
        _RECENT[place] = self, name, made
        return made

    def __contains__(self, name: object) -> bool:
        return any(own == name for own in self)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return packed, (dict(self),)


class OwnTiers(PackedTiers):
    """Tiers of a clip that was made by itself.

    Args:
        bounds: of each tier its name, its first interval and the one after its last, in the two others.
        times: start and end of every interval in seconds, `[2 n]`.
        labels: labels of every interval, `[n]`.
    """

    __slots__ = ("_bounds", "_labels", "_times")

    def __init__(self, bounds: tuple[tuple[str, int, int], ...], times: array[float], labels: tuple[str, ...]) -> None:
        self._bounds, self._times, self._labels = bounds, times, labels

    def __iter__(self) -> Iterator[str]:
        return (name for name, _, _ in self._bounds)

    def __len__(self) -> int:
        return len(self._bounds)

    def has_empty(self) -> bool:
        """Return whether a tier has no intervals."""
        return any(first == stop for _, first, stop in self._bounds)

    def columns(self, name: str) -> tuple[Times, Iterable[str]]:
        """Return the times and labels of a tier."""
        for own, first, stop in self._bounds:
            if own == name:
                return self._times[2 * first : 2 * stop], self._labels[first:stop]
        raise KeyError(name)


class TierTable:
    """The intervals of all clips of a corpus, those of a clip and of its tiers one after another.

    Args:
        names: names of tiers.
        labels: every label once.
        clip: the number of each interval's clip, `[n]`, rising.
        tier: the number of its name, `[n]`; each tier of a clip is in one piece.
        times: its start and end in seconds, `[n, 2]`.
        label: the number of its label, `[n]`.
        n_clips: how many clips there are, with and without tiers.
    """

    __slots__ = ("_label", "_labels", "_names", "_runs", "_starts", "_tiers", "_times")

    def __init__(
        self,
        names: list[str],
        labels: list[str],
        *,
        clip: npt.NDArray[np.integer[Any]],
        tier: npt.NDArray[np.integer[Any]],
        times: npt.NDArray[np.float64],
        label: npt.NDArray[np.integer[Any]],
        n_clips: int,
    ) -> None:
        self._names, self._labels = ([sys.intern(text) for text in texts] for texts in (names, labels))
        starts = run_starts(clip, tier)
        self._times = np.ascontiguousarray(times).reshape(-1)
        self._label = _small(label)
        self._starts = _one_by_one(np.append(starts, len(clip)))
        self._tiers = _one_by_one(tier[starts])
        self._runs = _one_by_one(np.searchsorted(clip[starts], np.arange(n_clips + 1)))

    def of_clip(self, row: int) -> Tiers:
        """Return the tiers of the clip of a number."""
        return SharedTiers(self, row) if self._runs[row] < self._runs[row + 1] else NO_TIERS

    def names(self, row: int) -> list[str]:
        """Return the names of the tiers of a clip."""
        return [self._names[each] for each in self._tiers[self._runs[row] : self._runs[row + 1]]]

    def columns(self, row: int, name: str) -> tuple[Times, Iterable[str]]:
        """Return the times and labels of a tier of a clip, or raise KeyError."""
        for run in range(self._runs[row], self._runs[row + 1]):
            if self._names[self._tiers[run]] == name:
                first, stop = self._starts[run], self._starts[run + 1]
                labels = map(self._labels.__getitem__, self._label[first:stop].tolist())
                return self._times[2 * first : 2 * stop], labels
        raise KeyError(name)


class SharedTiers(PackedTiers):
    """Tiers of a clip in the table of its corpus, which stays in memory as long as one of its clips does."""

    __slots__ = ("_row", "_table")

    def __init__(self, table: TierTable, row: int) -> None:
        self._table, self._row = table, row

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.names(self._row))

    def __len__(self) -> int:
        return len(self._table.names(self._row))

    def has_empty(self) -> bool:
        """Return False: a table has no row of what has no intervals."""
        return False

    def columns(self, name: str) -> tuple[Times, Iterable[str]]:
        """Return the times and labels of a tier."""
        return self._table.columns(self._row, name)


_RECENT: list[tuple[PackedTiers, str, tuple[Interval, ...]] | None] = [None] * 32
"""Each place is read and written as a whole, so that threads need no lock."""


def run_starts(clip: npt.NDArray[np.integer[Any]], tier: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.intp]:
    """Return where a tier of a clip begins, given the numbers of every interval's clip and tier, `[n]` each."""
    changes = (clip[1:] != clip[:-1]) | (tier[1:] != tier[:-1])
    return np.flatnonzero(np.concatenate([np.ones(min(len(clip), 1), dtype=bool), changes]))


def _small(numbers: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
    """Non-negative numbers in as few bytes as the largest needs."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def _one_by_one(numbers: npt.NDArray[np.integer[Any]]) -> memoryview[int]:
    """The same, for reading single numbers, which an array is slow at."""
    return memoryview(_small(numbers).data).toreadonly()


@dataclass(frozen=True)
class TierColumns:
    """The intervals of one tier of many clips as arrays, clip after clip.

    Attributes:
        clip: the number of each interval's clip, `[n]`, rising.
        times: its start and end in seconds, `[n, 2]`.
        label: the number of its label, `[n]`.
        labels: every label once.
    """

    clip: npt.NDArray[np.intp]
    times: npt.NDArray[np.float64]
    label: npt.NDArray[np.intp]
    labels: tuple[str, ...]


def tier_columns(clips: Sequence[PackedTiers], name: str) -> TierColumns:
    """Return a tier of the clips of these tiers, without an object for each interval."""
    times: list[Times] = [np.zeros(0)]
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    label: array[int] = array("q")
    for tiers in clips:
        try:
            own, labels = tiers.columns(name)
        except KeyError:
            times.append(times[0])
        else:
            times.append(own)
            label.extend(map(numbers.__getitem__, labels))
    return TierColumns(
        clip=np.repeat(np.arange(len(clips)), [len(own) // 2 for own in times[1:]]),
        times=np.concatenate(times).reshape(-1, 2),
        label=np.frombuffer(label, dtype=np.int64),
        labels=tuple(numbers),
    )


def tier_labels(clips: Iterable[Tiers], name: str) -> set[str]:
    """Return the labels that a tier has in the clips of these tiers; makes no intervals of packed ones."""
    found: set[str] = set()
    for tiers in clips:
        if not isinstance(tiers, PackedTiers):
            found.update(each.label for each in tiers.get(name, ()))
        elif name in tiers:
            found.update(tiers.columns(name)[1])
    return found


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
    return OwnTiers(tuple(bounds), times, tuple(labels)) if bounds else NO_TIERS


def without_empty(tiers: Tiers) -> Tiers:
    """Return tiers without those that have no intervals; the very ones given, if none has."""
    if not tiers.has_empty() if isinstance(tiers, PackedTiers) else all(tiers.values()):
        return tiers
    return packed({name: tier for name, tier in tiers.items() if tier})


NO_TIERS = OwnTiers((), array("d"), ())
