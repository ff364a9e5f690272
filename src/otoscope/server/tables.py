"""The feature table: all features of some atlases as columns; only the rows that are shown become objects."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from otoscope.errors import InputError
from otoscope.server.caching import ByteCache
from otoscope.server.shapes import FeatureRow

if TYPE_CHECKING:
    import pandas as pd

    from otoscope.atlas import Atlas

NUMBERS = ("f1", "f1_low", "f1_high", "ap", "density", "max")
MATCH = ("label", "label_kind", "f1", "f1_low", "f1_high", "ap")
"""Columns that say how well a feature detects the class searched for."""
MINI_BINS = 24


@dataclass(frozen=True)
class Query:
    """What to list: text or index, filters, order."""

    q: str = ""
    kind: str | None = None
    min_f1: float = 0.0
    min_density: float = 0.0
    max_density: float = 1.0
    dead: bool = False
    sort: str = "f1"
    descending: bool = True


@dataclass(frozen=True)
class Selection:
    """Row numbers of the table in order, the label each was found by where it differs, and what to tell the reader."""

    rows: NDArray[np.int64]
    labels: Mapping[int, Mapping[str, Any]]
    note: str | None


def number(value: Any) -> float | None:
    """Return a float, or None for a missing or infinite value."""
    if value is None:
        return None
    result = float(value)
    return result if math.isfinite(result) else None


def text(value: Any) -> str | None:
    """Return a string, or None for a missing value."""
    return value if isinstance(value, str) and value else None


class FeatureTable:
    """The features of some atlases as columns. Immutable; selections are kept, so scrolling costs only its rows."""

    def __init__(self, atlases: Mapping[str, Atlas]) -> None:
        self.atlases = dict(atlases)
        self.names = list(atlases)
        frames = [atlas.features for atlas in atlases.values()]
        sizes = [len(frame) for frame in frames]
        self.start = dict(zip(self.names, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True)) if sizes else {}
        self.atlas_of = np.repeat(np.arange(len(sizes)), sizes)
        self.index = _column(frames, lambda f: f.index.to_numpy(np.int64), np.int64)
        self.columns = {
            name: _column(frames, lambda f, n=name: f[n].to_numpy(np.float64), np.float64) for name in NUMBERS
        }
        self.unit = _column(frames, lambda f: f["unit"].to_numpy(object), object)
        self.label = _column(frames, lambda f: f["label"].to_numpy(object), object)
        self.kind = _column(frames, lambda f: f["label_kind"].to_numpy(object), object)
        self.dead = _column(frames, lambda f: f["dead"].to_numpy(bool), bool)
        self._selections: ByteCache[Selection] = ByteCache(64, lambda _: 1)

    def select(self, query: Query) -> Selection:
        """Return the rows that `query` asks for, in order."""
        return self._selections.get(query, lambda: self._select(query))

    def _select(self, query: Query) -> Selection:
        found, labels, note = self._search(query)
        f1 = self.columns["f1"].copy()
        kind = self.kind.copy()
        for row, matched in labels.items():
            f1[row], kind[row] = matched["f1"], matched["label_kind"]
        density = self.columns["density"]
        keep = (density[found] >= query.min_density) & (density[found] <= query.max_density)
        if query.min_f1 > 0:
            keep &= np.nan_to_num(f1[found], nan=-1.0) >= query.min_f1
        if query.kind is not None:
            keep &= kind[found] == query.kind
        if not query.dead:
            keep &= ~self.dead[found]
        rows = found[keep]
        return Selection(rows[self._order(rows, query, f1)], labels, note)

    def _order(self, rows: NDArray[np.int64], query: Query, f1: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the order of `rows`; missing values go last either way, ties keep the order of the atlas."""
        if query.sort == "label":
            keys = [str(self.label[row] or "\uffff").casefold() for row in rows]
            order = sorted(range(len(rows)), key=keys.__getitem__, reverse=query.descending)
            return np.asarray(order, dtype=np.intp)
        values = self.index.astype(np.float64) if query.sort == "index" else self.columns.get(query.sort, f1)
        values = (f1 if query.sort == "f1" else values)[rows]
        ranked = -values if query.descending else values
        return np.argsort(np.where(np.isnan(ranked), np.inf, ranked), kind="stable")

    def _search(self, query: Query) -> tuple[NDArray[np.int64], dict[int, dict[str, Any]], str | None]:
        """Return matching rows, the label each was found by, and a note."""
        q = query.q.strip()
        everything = np.arange(len(self.index), dtype=np.int64)
        if not q:
            return everything, {}, None
        address = re.fullmatch(r"(?:(.+):)?(\d{1,9})", q)
        if address is not None:
            found = everything[self.index == int(address[2])]
            if address[1] is not None:
                found = found[[self.names[self.atlas_of[row]] == address[1] for row in found]]
            return found, {}, f"Features number {int(address[2])}."
        try:
            rows, labels = self._scored_for(label=q, kind=query.kind)
            return rows, labels, None
        except InputError as refusal:
            rows, labels = self._scored_for(text=q.strip("/"), kind=query.kind)
            note = f"Sounds whose name contains {q!r}." if len(rows) else str(refusal)
            return rows, labels, note

    def _scored_for(
        self, *, kind: str | None, label: str | None = None, text: str | None = None
    ) -> tuple[NDArray[np.int64], dict[int, dict[str, Any]]]:
        """Return the rows scored for a class, with their scores for it; refused if no atlas knows the class."""
        labels: dict[int, dict[str, Any]] = {}
        refusals = []
        for name, atlas in self.atlases.items():
            try:
                frame = atlas.find(label=label, text=text, kind=kind, limit=None)
            except InputError as error:
                refusals.append(error)
                continue
            scores = frame[list(MATCH)].to_dict("records")
            labels |= {self.row(name, i): record for i, record in zip(frame.index.tolist(), scores, strict=True)}
        if label is not None and refusals and len(refusals) == len(self.atlases):
            raise refusals[0]
        return np.fromiter(labels, np.int64, len(labels)), labels

    def row(self, atlas: str, index: int) -> int:
        """Return the row number of a feature."""
        return int(self.start[atlas]) + index

    def view(self, rows: Sequence[int], labels: Mapping[int, Mapping[str, Any]] | None = None) -> list[FeatureRow]:
        """Return rows as the API says them; `labels` replaces the label (and its scores) of some."""
        return [self._view(row, (labels or {}).get(row)) for row in rows]

    def _view(self, row: int, found: Mapping[str, Any] | None) -> FeatureRow:
        name = self.names[self.atlas_of[row]]
        index = int(self.index[row])
        values: dict[str, Any] = {key: self.columns[key][row] for key in NUMBERS}
        values |= {"label": self.label[row], "label_kind": self.kind[row], **(found or {})}
        return FeatureRow(
            atlas=name,
            index=index,
            unit=str(self.unit[row]),
            label=text(values["label"]),
            label_kind=text(values["label_kind"]),
            f1=number(values["f1"]),
            f1_low=number(values["f1_low"]),
            f1_high=number(values["f1_high"]),
            ap=number(values["ap"]),
            density=number(values["density"]) or 0.0,
            max=number(values["max"]) or 0.0,
            dead=bool(self.dead[row]),
            histogram=mini(self.atlases[name].histograms[index]),
        )


def mini(counts: NDArray[Any]) -> list[int]:
    """Return a histogram as at most 24 bar heights of 0…100 on a logarithmic scale."""
    if len(counts) > MINI_BINS:
        edges = np.arange(MINI_BINS) * len(counts) // MINI_BINS
        counts = np.add.reduceat(counts, edges)
    heights = np.log1p(counts.astype(np.float64))
    top = heights.max(initial=0.0)
    return [] if top == 0 else (heights / top * 100).round().astype(int).tolist()


def _column(frames: Sequence[pd.DataFrame], read: Any, dtype: Any) -> NDArray[Any]:
    parts = [read(frame) for frame in frames]
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)
