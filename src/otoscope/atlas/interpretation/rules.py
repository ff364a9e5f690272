"""Explanations that a rule can try: does a moment carry the class (rung 1), or sound as described (rung 2)?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from otoscope.atlas.interpretation.descriptors import NAMES, Descriptor, named
from otoscope.atlas.interpretation.moments import Moment
from otoscope.audio import Corpus, Interval
from otoscope.evaluation.naming.label_sets import LabelKind
from otoscope.evaluation.naming.traits import all_kinds

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Rule(Protocol):
    """Says of each moment whether an explanation fits it; `measures [m, NAMES]` are of the same moments."""

    def __call__(self, moments: list[Moment], measures: Floats) -> Bools:
        """Return `[m]`."""
        ...


class LabelledMoments:
    """Which class of any kind of label the moments of a corpus carry."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.kinds: dict[str, LabelKind] = {kind.name: kind for kind in all_kinds(corpus)}
        self._intervals: Callable[[str, str], tuple[Interval, ...]] = lru_cache(maxsize=4096)(self._read)

    def _read(self, kind: str, clip_id: str) -> tuple[Interval, ...]:
        return self.kinds[kind].intervals(self.corpus.get(clip_id)) or ()

    def carries(self, moment: Moment, kind: str, label: str) -> bool:
        """Return whether an interval of this class holds the moment."""
        return any(
            each.label.strip() == label and each.start_s <= moment.time_s + 1e-6 and moment.time_s < each.end_s - 1e-6
            for each in self._intervals(kind, moment.clip_id)
        )


@dataclass(frozen=True)
class CarriesClass:
    """A moment fits where it carries the class."""

    labelled: LabelledMoments
    kind: str
    label: str

    def __call__(self, moments: list[Moment], measures: Floats) -> Bools:
        return np.array([self.labelled.carries(each, self.kind, self.label) for each in moments], dtype=np.bool_)


@dataclass(frozen=True)
class SoundsLike:
    """A moment fits where its named measures lie, on average, on the active side of a border."""

    columns: tuple[int, ...]
    signs: tuple[float, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    border: float

    def score(self, measures: Floats) -> Floats:
        """Return the mean of the standardised measures, towards active; pitch that is unknown counts as usual."""
        z = (measures[:, self.columns] - np.array(self.centre)) / np.array(self.spread) * np.array(self.signs)
        return np.asarray(np.nan_to_num(np.clip(z, -3, 3)).mean(axis=1), dtype=np.float64)

    def __call__(self, moments: list[Moment], measures: Floats) -> Bools:
        return np.asarray(self.score(measures) > self.border, dtype=np.bool_)


def sounds_like(descriptors: list[Descriptor], active: Floats, silent: Floats) -> SoundsLike | None:
    """Return the rule of the named descriptors (None without any), its border where it divides these measures best."""
    chosen = named(descriptors)
    if not chosen:
        return None
    columns = tuple(NAMES.index(each.name) for each in chosen)
    both = np.concatenate([active, silent])[:, columns]
    rule = SoundsLike(
        columns,
        tuple(each.sign for each in chosen),
        tuple(np.nanmean(both, axis=0).tolist()),
        tuple(np.maximum(np.nanstd(both, axis=0), 1e-9).tolist()),
        0.0,
    )
    hits, misses = np.sort(rule.score(active)), np.sort(rule.score(silent))
    borders = np.unique(np.concatenate([hits, misses]))
    above = 1 - np.searchsorted(hits, borders, side="right") / len(hits)
    below = np.searchsorted(misses, borders, side="right") / len(misses)
    return replace(rule, border=float(borders[int(np.argmax(above + below))]))
