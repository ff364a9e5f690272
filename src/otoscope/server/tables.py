"""The feature table: features of some atlases, found and ordered on mapped columns; only shown rows become objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from otoscope.errors import InputError, nearest
from otoscope.server.caching import ByteCache
from otoscope.server.shapes import Facet, FeatureRow
from otoscope.server.views import feature_row

if TYPE_CHECKING:
    from otoscope.atlas import Atlas

FACETS_SHOWN = 24
Ints = NDArray[np.int64]
NoteSearch = Callable[[str, str], Sequence[int]]
"""From a text and the name of an atlas to the features whose notes hold the text."""


@dataclass(frozen=True)
class Query:
    """What to list: text, label or index, filters, order. `label` keeps features that are named so."""

    q: str = ""
    label: str | None = None
    kind: str | None = None
    nature: str | None = None
    min_f1: float = 0.0
    min_density: float = 0.0
    max_density: float = 1.0
    dead: bool = False
    sort: str = "f1"
    descending: bool = True


@dataclass(frozen=True)
class Selection:
    """Row numbers of the table in order, the label each was found by where it differs, what to tell the reader, and
    how many rows there are of every kind, label and nature."""

    rows: Ints
    labels: Mapping[int, Mapping[str, Any]]
    note: str | None
    facets: Mapping[str, list[Facet]] = field(default_factory=dict)


class FeatureTable:
    """The features of some atlases, numbered one atlas after another. Immutable; selections are kept, so scrolling
    costs only its rows."""

    def __init__(self, atlases: Mapping[str, Atlas], notes: NoteSearch | None = None) -> None:
        self.atlases = dict(atlases)
        self.names = list(atlases)
        self.start = np.cumsum([0, *(len(atlas) for atlas in self.atlases.values())])
        self._notes = notes
        self._columns: dict[str, NDArray[Any]] = {}
        pairs = {pair: None for atlas in self.atlases.values() for pair in _classes(atlas)}
        self.classes: list[tuple[str, str]] = list(pairs)
        self._selections: ByteCache[Selection] = ByteCache(64, lambda _: 1)

    def __len__(self) -> int:
        return int(self.start[-1])

    def place(self, row: int) -> tuple[str, int]:
        """Return the atlas and the index of a row."""
        at = int(np.searchsorted(self.start, row, side="right")) - 1
        return self.names[at], row - int(self.start[at])

    def row(self, atlas: str, index: int) -> int:
        """Return the row number of a feature."""
        return int(self.start[self.names.index(atlas)]) + index

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of all rows; `label` is a number of `classes`, −1 for none."""
        if name not in self._columns:
            parts = [self._part(atlas, name) for atlas in self.atlases.values()]
            self._columns[name] = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.int8), *parts])
        return self._columns[name]

    def _part(self, atlas: Atlas, name: str) -> NDArray[Any]:
        if name != "label":
            return atlas.column(name)
        number = {pair: i for i, pair in enumerate(self.classes)}
        ours = np.array([*(number[pair] for pair in _classes(atlas)), -1], dtype=np.int32)
        found: NDArray[Any] = ours[atlas.column("label")]
        return found

    def select(self, query: Query) -> Selection:
        """Return the rows that `query` asks for, in order.

        Raises:
            InputError: there is no such column to sort by.
        """
        noted = tuple(self._noted(query.q.strip()))
        return self._selections.get((query, noted), lambda: self._select(query, noted))

    def _select(self, query: Query, noted: Sequence[int]) -> Selection:
        if not len(self):
            return Selection(np.zeros(0, np.int64), {}, None)
        found, labels, note = self._search(query, noted)
        f1, label = self.column("f1"), self.column("label")
        if labels:
            f1, label = f1.copy(), label.copy()
            number = {pair: i for i, pair in enumerate(self.classes)}
            for row, matched in labels.items():
                f1[row], label[row] = matched["f1"], number[matched["label"], matched["label_kind"]]
        found = found[self._kept(found, query, f1)]
        kind_of = np.array([*self._kind_numbers(), -1])[label[found]]
        kinds = sorted({kind for _, kind in self.classes})
        wanted = np.ones(len(found), dtype=bool) if query.kind is None else kind_of == self._kind(kinds, query.kind)
        if query.label is not None:
            named = [i for i, (name, _) in enumerate(self.classes) if name == query.label]
            wanted &= np.isin(label[found], named)
        facets = {
            "kind": _counted(kind_of, [(kind, None) for kind in kinds]),
            "label": _counted(label[found[wanted]], self.classes),
        }
        rows = found[wanted]
        return Selection(rows[self._order(rows, query, f1, label)], labels, note, facets)

    def _kept(self, found: Ints, query: Query, f1: NDArray[Any]) -> NDArray[np.bool_]:
        keep = np.ones(len(found), dtype=bool)
        if query.min_density > 0 or query.max_density < 1:
            density = self.column("density")[found]
            keep &= (density >= query.min_density) & (density <= query.max_density)
        if query.min_f1 > 0:
            keep &= f1[found] >= query.min_f1
        if not query.dead:
            keep &= ~self.column("dead")[found].astype(bool)
        return keep

    def _kind_numbers(self) -> list[int]:
        kinds = sorted({kind for _, kind in self.classes})
        return [kinds.index(kind) for _, kind in self.classes]

    @staticmethod
    def _kind(kinds: Sequence[str], kind: str) -> int:
        return kinds.index(kind) if kind in kinds else -2

    def _order(self, rows: Ints, query: Query, f1: NDArray[Any], label: NDArray[Any]) -> NDArray[np.intp]:
        """Return the order of `rows`; missing values go last either way, ties keep the order of the atlas."""
        if query.sort == "label":
            names = [name.casefold() for name, _ in self.classes]
            place = np.empty(len(names) + 1)
            place[:-1] = np.unique(names, return_inverse=True)[1] if names else []
            place[-1] = np.nan
            values = place[label[rows]]
        elif query.sort == "index":
            values = (rows - self.start[np.searchsorted(self.start, rows, side="right") - 1]).astype(np.float64)
        elif query.sort == "f1":
            values = f1[rows]
        else:
            values = self._sortable(query.sort)[rows].astype(np.float64)
        ranked = -values if query.descending else values
        return np.argsort(np.where(np.isnan(ranked), np.inf, ranked), kind="stable")

    def _sortable(self, name: str) -> NDArray[Any]:
        shared = set.intersection(*(set(atlas.columns) for atlas in self.atlases.values()))
        if name not in shared:
            raise InputError(f"There is no column {name!r} to sort by{nearest(name, [*shared, 'index']) or '.'}")
        return self.column(name)

    def _search(self, query: Query, noted: Sequence[int]) -> tuple[Ints, dict[int, dict[str, Any]], str | None]:
        """Return matching rows, the label each was found by, and a note."""
        q = query.q.strip()
        everything = np.arange(len(self), dtype=np.int64)
        if not q:
            return everything, {}, None
        address = re.fullmatch(r"(?:(.+):)?(\d{1,9})", q)
        if address is not None:
            index = int(address[2])
            places = [name for name in self.names if address[1] in (None, name) and index < len(self.atlases[name])]
            return np.array([self.row(name, index) for name in places], np.int64), {}, f"Features number {index}."
        told = f"{len(noted)} by people's notes" if noted else None
        try:
            rows, labels = self._scored_for(label=q, kind=query.kind)
        except InputError as refusal:
            rows, labels = self._scored_for(text=q.strip("/"), kind=query.kind)
            told = f"Sounds whose name contains {q!r}." if len(rows) else told or str(refusal)
        return np.union1d(rows, np.array(noted, dtype=np.int64)).astype(np.int64) if noted else rows, labels, told

    def _noted(self, text: str) -> list[int]:
        if self._notes is None or not text or text.isdecimal():
            return []
        return [self.row(name, feature) for name in self.names for feature in self._notes(text, name)]

    def _scored_for(
        self, *, kind: str | None, label: str | None = None, text: str | None = None
    ) -> tuple[Ints, dict[int, dict[str, Any]]]:
        """Return the rows scored for a class, with their scores for it; refused if no atlas knows the class."""
        labels: dict[int, dict[str, Any]] = {}
        refusals = []
        for name, atlas in self.atlases.items():
            try:
                frame = atlas.find(label=label, text=text, kind=kind, limit=None)
            except InputError as error:
                refusals.append(error)
                continue
            scores = frame[["label", "label_kind", "f1", "f1_low", "f1_high", "ap"]].to_dict("records")
            labels |= {self.row(name, i): record for i, record in zip(frame.index.tolist(), scores, strict=True)}
        if label is not None and refusals and len(refusals) == len(self.atlases):
            raise refusals[0]
        return np.fromiter(sorted(labels), np.int64, len(labels)), labels

    def view(self, rows: Sequence[int], labels: Mapping[int, Mapping[str, Any]] | None = None) -> list[FeatureRow]:
        """Return rows as the API says them; `labels` replaces the label (and its scores) of some."""
        found = []
        for row in rows:
            name, index = self.place(row)
            found.append(feature_row(self.atlases[name], name, index, (labels or {}).get(row)))
        return found


def _classes(atlas: Atlas) -> list[tuple[str, str]]:
    return list(zip(atlas.classes.labels, atlas.classes.kinds, strict=True))


def _counted(numbers: NDArray[Any], names: Sequence[tuple[str, str | None]]) -> list[Facet]:
    """Return how many rows have each name, most frequent first; −1 counts nowhere."""
    counts = np.bincount(numbers[numbers >= 0], minlength=len(names))
    best = np.argsort(-counts, kind="stable")[:FACETS_SHOWN]
    return [Facet(value=names[i][0], kind=names[i][1], count=int(counts[i])) for i in best.tolist() if counts[i]]
