"""The clips of a saved corpus in little memory: columns, from which a clip is made when it is asked for.

A hundred thousand clips held as objects take more room than building an atlas of them does. A clip made of a row knows
its row alone and looks up what it is asked for; it is equal to the clip that was saved, and made anew each time.
"""

from __future__ import annotations

import itertools
import math
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import xxhash

from otoscope.audio.attributes import Attributes
from otoscope.audio.clip import Clip, RowOfTable
from otoscope.audio.columns import Ints, Texts, Times, one_by_one, small, time_of
from otoscope.audio.tiers import NO_TIERS, TierTable

_BLOCK = 256
"""Clips that are made at a time while all are gone through."""


class ClipTable:
    """What is said of the clips of a saved corpus, by column.

    Args:
        texts: the columns clip_id, uri, text, speaker, language and sha256, `[n]` each.
        start_s, end_s: columns of times, `[n]`; NaN where nothing is said.
        pairs: where the attributes of each clip begin in `names` and `values`, and where the last end, `[n + 1]`.
        names, values: of all attributes.
        folder: where uris that are relative begin.
        tiers: the intervals of all clips, if there are any.
    """

    def __init__(
        self,
        texts: Mapping[str, Texts],
        *,
        start_s: Times,
        end_s: Times,
        pairs: Ints,
        names: Texts,
        values: Texts,
        folder: Path,
    ) -> None:
        start_of, uri_of = time_of(start_s), texts["uri"].get
        self._fields: dict[str, Callable[[int], Any]] = {  # none refers to the table, which could else not be freed
            **{name: column.get for name, column in texts.items()},
            "start_s": lambda row: start_of(row) or 0.0,
            "end_s": time_of(end_s),
            "attributes": _attributes(one_by_one(pairs), names.get, values.get),
            "source": lambda row: folder / str(uri_of(row)),
            "tiers": lambda row: NO_TIERS,
        }
        self._n_clips = len(texts["clip_id"])
        self._lengths: array[float] | None = None
        self.id_of: Callable[[int], Any] = texts["clip_id"].get
        self._hashes, self._rows = _by_hash(map(self.id_of, range(len(self))), len(self))
        self._twice = self._two_of_one_id()

    def __len__(self) -> int:
        return self._n_clips

    def put_tiers(self, tiers: TierTable) -> None:
        """Say which intervals the clips have."""
        self._fields["tiers"] = tiers.of_clip

    def field(self, row: int, name: str) -> Any:
        """Return a field of the clip of a row."""
        return self._fields[name](row)

    def length_s(self, row: int, measure: Callable[[], float]) -> float:
        """Return how long a clip is whose end is not given, measured once."""
        if self._lengths is None:
            self._lengths = array("d", [math.nan]) * len(self)
        if math.isnan(self._lengths[row]):
            self._lengths[row] = measure()
        return self._lengths[row]

    def find(self, clip_id: str) -> int | None:
        """Return the row of an id, if there is one."""
        sought = _hash(clip_id)
        at = bisect_left(self._hashes, sought)
        while at < len(self._hashes) and self._hashes[at] == sought:
            if self.id_of(self._rows[at]) == clip_id:
                return self._rows[at]
            at += 1
        return None

    def twice(self) -> str | None:
        """Return an id that two clips have, if there is one."""
        return self._twice

    def _two_of_one_id(self) -> str | None:
        hashes = np.asarray(self._hashes)
        alike = np.flatnonzero(hashes[1:] == hashes[:-1])
        met: set[str] = set()
        for at in np.union1d(alike, alike + 1).tolist():
            clip_id: str = self.id_of(self._rows[at])
            if clip_id in met:
                return clip_id
            met.add(clip_id)
        return None


class TableClips(Sequence[Clip]):
    """Clips of a table in a fixed order, each made when it is asked for.

    Args:
        table: what is said of them.
        rows: those of the table that are meant, none twice; all by default.
    """

    __slots__ = ("_rows", "_table")

    def __init__(self, table: ClipTable, rows: range | npt.NDArray[np.integer[Any]] | None = None) -> None:
        self._table = table
        self._rows: range | npt.NDArray[np.integer[Any]] = range(len(table)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int) -> Clip: ...
    @overload
    def __getitem__(self, key: slice) -> TableClips: ...
    def __getitem__(self, key: int | slice) -> Clip | TableClips:
        if isinstance(key, slice):
            return TableClips(self._table, self._rows[key])
        return Clip.of_row(self._table, int(self._rows[key]))

    def __iter__(self) -> Iterator[Clip]:
        for start in range(0, len(self), _BLOCK):
            rows = self._rows[start : start + _BLOCK]
            made = tuple(map(Clip.__new__, itertools.repeat(Clip, len(rows))))
            deque(map(_PUT_TABLE, made, itertools.repeat(self._table)), maxlen=0)
            deque(map(_PUT_ROW, made, rows if isinstance(rows, range) else rows.tolist()), maxlen=0)
            yield from made

    def __contains__(self, value: object) -> bool:
        at = self.find(value.clip_id) if isinstance(value, Clip) else None
        return at is not None and self[at] == value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple | TableClips):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (list(self),)

    def find(self, clip_id: str) -> int | None:
        """Return the place of an id in this order, if it is one of these clips."""
        row = self._table.find(clip_id)
        if row is None:
            return None
        if isinstance(self._rows, range):
            return self._rows.index(row) if row in self._rows else None
        at = int(self._rows.searchsorted(self._rows.dtype.type(row)))  # of another type, all would be converted
        if at < len(self._rows) and self._rows[at] == row:
            return at
        places = np.flatnonzero(self._rows == row)  # the order may not rise
        return int(places[0]) if len(places) else None

    def twice(self) -> str | None:
        """Return an id that two clips of the table have, if there is one."""
        return self._table.twice()

    def ids(self) -> Iterator[str]:
        """Yield the ids in order."""
        return map(self._table.id_of, map(int, self._rows))

    def take(self, places: Sequence[int]) -> TableClips:
        """Return the clips at some places of this order."""
        return TableClips(self._table, small(np.asarray(self._rows)[np.asarray(places, dtype=np.intp)]))


_PUT_TABLE, _PUT_ROW = (RowOfTable.__dict__[name].__set__ for name in ("_table", "_row"))


def _attributes(
    pairs: Sequence[int], name_of: Callable[[int], Any], value_of: Callable[[int], Any]
) -> Callable[[int], Attributes]:
    """Return what makes the attributes of a row; of a name given twice the last value counts."""

    def get(row: int) -> Attributes:
        span = range(pairs[row], pairs[row + 1])
        names, values = tuple(map(name_of, span)), tuple(map(value_of, span))
        if len(set(names)) < len(names):
            said = dict(zip(names, values, strict=True))
            names, values = tuple(said), tuple(said.values())
        return Attributes(names, values)

    return get


def _hash(clip_id: str) -> int:
    return xxhash.xxh3_64_intdigest(clip_id.encode("utf-8", "surrogatepass"))


def _by_hash(ids: Iterable[Any], n_ids: int) -> tuple[memoryview[int], memoryview[int]]:
    """Return the hashes of ids, rising, and the row of each."""
    hashes = np.fromiter(map(_hash, ids), dtype=np.uint64, count=n_ids)
    order = np.argsort(hashes, kind="stable")
    return memoryview(hashes[order].data).toreadonly(), one_by_one(order)
