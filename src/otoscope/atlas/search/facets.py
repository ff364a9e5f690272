"""Choosing features by what is known of them: filters on any column, order, and counts by kind and label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas.format import LABELS
from otoscope.atlas.search.by_label import label_kind, scored
from otoscope.errors import InputError, nearest

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Filters:
    """Which features to show; what is not given does not matter.

    Attributes:
        label: features scored for this class (see `Atlas.find`); label figures are then those for this class.
        kind: only this kind of class; without `label` and `text`, features named after such a class.
        text: features scored for a class whose name contains this.
        ranges: `{column: (low, high)}`, both inclusive, None for no bound; features without a value never pass.
        dead: also features that never fire.
        noted: features that `text` finds for reasons that the atlas does not know, such as a person's note.
        among: only these features.
    """

    label: str | None = None
    kind: str | None = None
    text: str | None = None
    ranges: Mapping[str, Bounds] = field(default_factory=dict)
    dead: bool = False
    noted: npt.NDArray[np.integer] | None = None
    among: npt.NDArray[np.integer] | None = None


@dataclass(frozen=True)
class Selection:
    """Features in the order asked for.

    Attributes:
        features: those within `limit` and `offset`.
        label_rows: the row of `labels.safetensors` by which each was found; −1: by itself.
        total: how many there are in all.
        facets: "kind": features named after a class of each kind, among those that pass all filters but `kind`;
            "label": features named after each class, among those that pass all but `label` and `text`. Most first.
    """

    features: Ints
    label_rows: Ints
    total: int
    facets: dict[str, dict[str, int]]


def select(
    atlas: Atlas, filters: Filters, sort: str | None, descending: bool, limit: int | None, offset: int
) -> Selection:
    """See `Atlas.select`."""
    if offset < 0 or (limit is not None and limit < 0):
        raise InputError(f"limit and offset must be at least 0, got {limit} and {offset}.")
    for name in filters.ranges:
        _require_column(atlas, name)
    kind = label_kind(atlas, filters.kind)
    plain = _pass(atlas, filters)
    facets = {"label": _counts(atlas, _of_kind(atlas, plain, kind), atlas.classes.labels)}
    if filters.label is None and filters.text is None:
        facets["kind"] = _counts(atlas, plain, atlas.classes.kinds)
        chosen = np.flatnonzero(_of_kind(atlas, plain, kind))
        rows = np.full(len(chosen), -1, dtype=np.int64)
    else:
        chosen, rows = _scored(atlas, filters, kind)
        if kind:
            others, _ = _scored(atlas, filters, None) if filters.label is None else (chosen, rows)
        else:
            others = chosen
        facets["kind"] = _counts(atlas, others, atlas.classes.kinds)
    order = _order(atlas, chosen, rows, sort, descending, None if limit is None else offset + limit)
    shown = order[offset:]
    return Selection(chosen[shown], rows[shown], len(chosen), facets)


def figure(atlas: Atlas, name: str, features: Ints, rows: Ints) -> npt.NDArray[Any]:
    """Return one column for some features, with the figures of `rows` where they were found by a class."""
    labels = atlas.sealed.arrays(LABELS)
    values = atlas.column(name)
    values = values if len(features) == len(values) else values[features]
    source = {"label": "class"}.get(name, name)
    if source not in labels or source in ("indptr", "rank") or not (rows >= 0).any():
        return values
    found = labels.read(source)[np.maximum(rows, 0)]
    return np.where(rows >= 0, found, values)


def _require_column(atlas: Atlas, name: str) -> None:
    if name not in atlas.columns:
        raise InputError(f"There is no column {name!r}{nearest(name, atlas.columns) or '.'}")


def _within(values: npt.NDArray[Any], bounds: Bounds) -> Bools:
    low, high = bounds
    kept: Bools = values == values  # not NaN
    if low is not None:
        kept &= values >= low
    if high is not None:
        kept &= values <= high
    return kept


def _pass(atlas: Atlas, filters: Filters) -> Bools:
    """`[n]` which features pass the filters that have nothing to do with labels' names."""
    kept = np.ones(len(atlas), dtype=bool) if filters.dead else ~atlas.column("dead")
    if filters.among is not None:
        inside = np.zeros(len(atlas), dtype=bool)
        inside[np.asarray(filters.among, dtype=np.int64)] = True
        kept &= inside
    for name, bounds in filters.ranges.items():
        kept &= _within(atlas.column(name), bounds)
    return kept


def _of_kind(atlas: Atlas, kept: Bools, kind: str | None) -> Bools:
    if kind is None:
        return kept
    wanted = np.array([*(each == kind for each in atlas.classes.kinds), False])
    return np.asarray(kept & wanted[atlas.column("label")])


def _scored(atlas: Atlas, filters: Filters, kind: str | None) -> tuple[Ints, Ints]:
    """Features found by a class, and the rows that found them, after all other filters."""
    features, rows = scored(atlas, filters.label, kind, filters.text)
    if filters.noted is not None and filters.text is not None:
        more = np.setdiff1d(np.asarray(filters.noted, dtype=np.int64), features)
        features, rows = np.concatenate([features, more]), np.concatenate([rows, np.full(len(more), -1)])
    order = np.argsort(features, kind="stable")
    features, rows = features[order], rows[order]
    kept = np.ones(len(features), dtype=bool) if filters.dead else ~atlas.column("dead")[features]
    if filters.among is not None:
        kept &= np.isin(features, filters.among)
    for name, bounds in filters.ranges.items():
        kept &= _within(figure(atlas, name, features, rows), bounds)
    return features[kept], rows[kept]


def _counts(atlas: Atlas, chosen: Bools | Ints, names: list[str]) -> dict[str, int]:
    """How many of some features are named after each class, by one of the classes' names; most first."""
    named = atlas.column("label")[chosen]
    counts = np.bincount(named[named >= 0], minlength=len(names))
    found: dict[str, int] = {}
    for i in np.flatnonzero(counts).tolist():
        found[names[i]] = found.get(names[i], 0) + int(counts[i])
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _order(atlas: Atlas, features: Ints, rows: Ints, sort: str | None, descending: bool, wanted: int | None) -> Ints:
    """Positions of the first `wanted` features in order; absent values last, ties by feature."""
    keys = _sort_keys(atlas, features, rows, sort)
    if keys.dtype.kind == "f":
        keys = np.where(np.isnan(keys), np.inf, -keys if descending else keys)
    elif descending:
        keys = -keys.astype(np.int64)
    if wanted is None or wanted >= len(keys):
        return np.argsort(keys, kind="stable")
    if wanted == 0:
        return np.zeros(0, np.int64)
    edge = np.partition(keys, wanted - 1)[wanted - 1]
    before = np.flatnonzero(keys < edge)
    level = np.flatnonzero(keys == edge)[: wanted - len(before)]
    return np.concatenate([before[np.argsort(keys[before], kind="stable")], level])


def _sort_keys(atlas: Atlas, features: Ints, rows: Ints, sort: str | None) -> npt.NDArray[Any]:
    if sort in ("feature", "index"):
        return features
    if sort is None:
        keys = figure(atlas, "f1", features, rows)
        return keys if not np.isnan(keys).all() else figure(atlas, "max", features, rows)
    if sort not in atlas.columns:
        raise InputError(f"There is no column {sort!r} to sort by{nearest(sort, atlas.columns) or '.'}")
    keys = figure(atlas, sort, features, rows)
    if sort in ("label", "purity_label"):
        names = atlas.classes.labels
        place = np.full(len(names) + 1, np.nan)
        place[sorted(range(len(names)), key=lambda i: (names[i].casefold(), names[i]))] = np.arange(len(names))
        return np.asarray(place[keys])
    return keys
