"""The feature table: what several atlases select, as one list; only the rows that are shown become objects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from otoscope.atlas.labels.natures import NATURES
from otoscope.atlas.search.facets import Filters, figure
from otoscope.errors import InputError, nearest
from otoscope.server.caching import ByteCache
from otoscope.server.shapes import Facet, FeatureRow
from otoscope.server.views import class_counts, feature_row, number, scored_as

if TYPE_CHECKING:
    from otoscope.atlas import Atlas

FACETS_SHOWN = 40
SORT_NAMES = ("index", "label")
CODED = ("nature", "purity_label", "dead")
Ints = NDArray[np.int64]
TextSearch = Callable[[str, str], Mapping[str, Collection[int]]]
"""From a text and the name of an atlas to the features of which something is written that holds the text, by what."""

Told = Sequence[Sequence[tuple[str, Sequence[int]]]]
"""For each atlas, by what tells of them, the features."""


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
    """Rows in order: the number of the atlas, the feature, and the row of its labels by which it was found (−1: none);
    a note to the reader; how many features there are of every kind and label; and what told of the words looked for,
    by feature of each atlas."""

    atlas: NDArray[np.int64]
    features: Ints
    label_rows: Ints
    note: str | None = None
    facets: Mapping[str, list[Facet]] = field(default_factory=dict)
    told: Sequence[Mapping[int, Sequence[str]]] = ()

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class _Part:
    """What one atlas selects, with the values to merge by."""

    features: Ints
    label_rows: Ints
    keys: NDArray[Any]
    kinds: Mapping[str, int]
    labels: Mapping[tuple[str, str], int]


NOTHING = np.zeros(0, dtype=np.int64)


class FeatureTable:
    """The features of some atlases. Immutable; selections are kept, so scrolling costs only its rows."""

    def __init__(self, atlases: Mapping[str, Atlas], told: TextSearch | None = None) -> None:
        self.atlases = dict(atlases)
        self.names = list(atlases)
        self._told = told or (lambda _text, _name: {})
        self._selections: ByteCache[Selection] = ByteCache(
            128 * 2**20,
            lambda s: s.atlas.nbytes + s.features.nbytes + s.label_rows.nbytes + 200 * sum(map(len, s.told)) + 1024,
        )

    def select(self, query: Query) -> Selection:
        """Return the features that `query` asks for, in order.

        Raises:
            InputError: there is no such column to sort by.
        """
        q = query.q.strip()
        found = [self._told(q, name) if q else {} for name in self.names]
        told = tuple(tuple((by, tuple(features)) for by, features in each.items()) for each in found)
        return self._selections.get((query, told), lambda: self._select(query, q, told))

    def _select(self, query: Query, q: str, told_by: Told) -> Selection:
        if not self.names:
            return Selection(NOTHING, NOTHING, NOTHING)
        self._require_known(query)
        address = re.fullmatch(r"(?:(.+):)?(\d{1,9})", q)
        if address is not None:
            index = int(address[2])
            wanted = {name: [index] for name in self.names if address[1] in (None, name)}
            parts = [self._by_index(query, name, wanted.get(name, ())) for name in self.names]
            return self._merged(query, parts, f"Features number {index}.")
        if not q:
            return self._merged(query, [self._found(query, name, {}) for name in self.names], None)
        counts = Counter({by: 0 for each in told_by for by, _ in each})
        noted: dict[str, dict[int, list[str]]] = {name: {} for name in self.names}
        for name, each in zip(self.names, told_by, strict=True):
            for by, features in each:
                counts[by] += len(features)
                for feature in features:
                    noted[name].setdefault(feature, []).append(by)
        also = f"{', '.join(f'{n} by {by}' for by, n in counts.items() if n)}." if any(counts.values()) else None
        told = list(noted.values())
        try:
            return replace(self._merged(query, self._scored(query, {"label": q}, noted), also), told=told)
        except InputError as refusal:
            parts = self._scored(query, {"text": q.strip("/")}, noted)
            n = sum(len(part.features) for part in parts)
            n_told = sum(map(len, told))
            named = [f"Sounds whose name contains {q!r}."] if n > n_told else [] if n else [str(refusal)]
            note = " ".join([*named, *([also] if n and also else [])])
            return replace(self._merged(query, parts, note), told=told)

    def _require_known(self, query: Query) -> None:
        if query.nature is not None and query.nature not in NATURES:
            raise InputError(f"There is no nature {query.nature!r}; choose one of {', '.join(NATURES)}.")
        if (name := query.sort) not in self._columns:
            raise InputError(f"There is no column {name!r} to sort by{nearest(name, sorted(self._columns)) or '.'}")

    @property
    def _columns(self) -> set[str]:
        """What all of the atlases can be sorted by."""
        return set.intersection(*(set(atlas.columns) for atlas in self.atlases.values())) | set(SORT_NAMES)

    @property
    def statistics(self) -> list[str]:
        """What there is to sort by, for people: every column but those that hold the numbers of names."""
        return sorted(self._columns - set(CODED)) if self.names else []

    def _by_index(self, query: Query, name: str, features: Sequence[int]) -> _Part:
        inside = [feature for feature in features if feature < len(self.atlases[name])]
        return self._found(query, name, {"among": np.array(inside, dtype=np.int64)})

    def _scored(self, query: Query, by: Mapping[str, str], noted: Mapping[str, Collection[int]]) -> list[_Part]:
        """Select the features scored for a class, and those that are told of; refused if no atlas knows the class."""
        parts, refusals = [], []
        for name in self.names:
            more = np.array(sorted(noted[name]), dtype=np.int64)
            try:
                part = self._found(query, name, dict(by))
            except InputError as error:
                refusals.append(error)
                part = self._found(query, name, {"among": NOTHING})
            new = np.setdiff1d(more, part.features)
            parts.append(_joined(part, self._found(query, name, {"among": new})) if len(new) else part)
        if "label" in by and len(refusals) == len(parts):
            raise refusals[0]
        return parts

    def _found(self, query: Query, name: str, more: dict[str, Any]) -> _Part:
        """Select the features of one atlas."""
        atlas = self.atlases[name]
        ranges: dict[str, tuple[float | None, float | None]] = {}
        if query.min_f1 > 0:
            ranges["f1"] = (query.min_f1, None)
        if query.min_density > 0 or query.max_density < 1:
            ranges["density"] = (query.min_density, query.max_density)
        if query.nature is not None:
            number = NATURES.index(query.nature)
            ranges["nature"] = (number, number)
        if query.label is not None:
            named = np.flatnonzero([label == query.label for label in atlas.classes.labels])
            among = np.flatnonzero(np.isin(atlas.column("label"), named))
            more = {**more, "among": among if "among" not in more else np.intersect1d(among, more["among"])}
        kind = query.kind if query.kind in atlas.classes.kinds else None
        if query.kind is not None and kind is None:
            more = {"among": NOTHING}
        filters = Filters(kind=kind, ranges=ranges, dead=query.dead, **more)
        found = atlas.select(filters, "feature", descending=False, limit=None)
        return _Part(
            found.features,
            found.label_rows,
            self._keys(atlas, query.sort, found.features, found.label_rows),
            found.facets["kind"],
            class_counts(atlas, found.features),
        )

    @staticmethod
    def _keys(atlas: Atlas, sort: str, features: Ints, rows: Ints) -> NDArray[Any]:
        if sort == "index":
            return features.astype(np.float64)
        values = figure(atlas, sort, features, rows)
        if sort != "label":
            return values.astype(np.float64)
        names = np.array([*(label.casefold() for label in atlas.classes.labels), ""])
        found: NDArray[Any] = names[values]
        return found

    def _merged(self, query: Query, parts: Sequence[_Part], note: str | None) -> Selection:
        """Put what all atlases selected in one order; missing values go last, ties keep the order of the atlases."""
        keys = np.concatenate([part.keys for part in parts])
        if query.sort == "label":
            names, number = np.unique(keys, return_inverse=True)
            keys = np.where(names[number] == "", np.nan, number.astype(np.float64)) if len(keys) else np.zeros(0)
        ranked = -keys if query.descending else keys
        order = np.argsort(np.where(np.isnan(ranked), np.inf, ranked), kind="stable")
        kinds: Counter[str] = Counter()
        labels: Counter[tuple[str, str]] = Counter()
        for part in parts:
            kinds.update(part.kinds)
            labels.update(part.labels)
        return Selection(
            np.repeat(np.arange(len(parts)), [len(part.features) for part in parts])[order],
            np.concatenate([part.features for part in parts])[order],
            np.concatenate([part.label_rows for part in parts])[order],
            note,
            {
                "kind": [Facet(value=kind, kind=None, count=n) for kind, n in kinds.most_common()],
                "label": [
                    Facet(value=label, kind=kind, count=n) for (label, kind), n in labels.most_common(FACETS_SHOWN)
                ],
            },
        )

    def sorted_by(self, selection: Selection, rows: slice, sort: str) -> list[float | None]:
        """Return the statistic by which a selection is sorted, of some of its rows; None for names and the unknown."""
        atlases, features = selection.atlas[rows], selection.features[rows]
        found = np.full(len(atlases), np.nan)
        for at, name in enumerate(() if sort in SORT_NAMES else self.names):
            here = np.flatnonzero(atlases == at)
            here = here[np.argsort(features[here])]
            found[here] = figure(self.atlases[name], sort, features[here], selection.label_rows[rows][here])
        return [number(value) for value in found.tolist()]

    def found_by(self, selection: Selection, rows: slice) -> list[list[str]]:
        """Return what told of some rows of a selection with the words that were looked for, if anything did."""
        places = zip(selection.atlas[rows].tolist(), selection.features[rows].tolist(), strict=True)
        return [list(selection.told[at].get(feature, ())) if selection.told else [] for at, feature in places]

    def view(self, selection: Selection, rows: Sequence[int] | slice) -> list[FeatureRow]:
        """Return some rows of a selection as the API says them."""
        views = []
        for at in np.arange(len(selection))[rows].tolist():
            name = self.names[int(selection.atlas[at])]
            atlas, row = self.atlases[name], int(selection.label_rows[at])
            views.append(feature_row(atlas, name, int(selection.features[at]), scored_as(atlas, row)))
        return views


def _joined(one: _Part, other: _Part) -> _Part:
    return _Part(
        np.concatenate([one.features, other.features]),
        np.concatenate([one.label_rows, other.label_rows]),
        np.concatenate([one.keys, other.keys]),
        Counter(one.kinds) + Counter(other.kinds),
        Counter(one.labels) + Counter(other.labels),
    )
