"""What the API says about one feature, read straight from the columns of its atlas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otoscope.atlas import Atlas
from otoscope.atlas.format import FEATURES, LABELS
from otoscope.atlas.labels.natures import NATURES
from otoscope.server.shapes import FeatureName, FeatureRow

FIGURES = ("f1", "f1_low", "f1_high", "ap")
"""Columns that say how well a feature detects its label."""
MINI_BINS = 24


def number(value: Any) -> float | None:
    """Return a float, or None for a missing or infinite value."""
    if value is None:
        return None
    result = float(value)
    return result if math.isfinite(result) else None


def cell(atlas: Atlas, column: str, feature: int) -> Any:
    """Return one value of a column of an atlas, touching nothing else."""
    return atlas.sealed.arrays(FEATURES).read(column, feature, feature + 1)[0].item()


def feature_row(atlas: Atlas, name: str, feature: int, found: Mapping[str, Any] | None = None) -> FeatureRow:
    """Return one line of the feature table; `found` replaces its label and the figures of it."""
    entry = atlas[feature]
    values = {key: cell(atlas, key, feature) for key in FIGURES}
    values |= dict(zip(("label", "label_kind"), _class_of(atlas, feature), strict=True))
    values |= found or {}
    return FeatureRow(
        atlas=name,
        index=feature,
        unit=entry.unit,
        label=values["label"],
        label_kind=values["label_kind"],
        **{key: number(values[key]) for key in FIGURES},
        density=number(cell(atlas, "density", feature)) or 0.0,
        max=number(cell(atlas, "max", feature)) or 0.0,
        dead=bool(cell(atlas, "dead", feature)),
        histogram=mini(atlas.sealed.arrays(FEATURES).read("histogram", feature, feature + 1)[0]),
        sentence=entry.sentence,
        nature=NATURES[int(cell(atlas, "nature", feature))],
    )


def feature_name(atlas: Atlas, name: str, feature: int) -> FeatureName:
    """Return a feature as a link says it."""
    label, kind = _class_of(atlas, feature)
    return FeatureName(atlas=name, index=feature, unit=atlas[feature].unit, label=label, label_kind=kind)


def _class_of(atlas: Atlas, feature: int) -> tuple[str | None, str | None]:
    at = int(cell(atlas, "label", feature))
    return atlas.classes[at] if at >= 0 else (None, None)


def mini(counts: NDArray[Any]) -> list[int]:
    """Return a histogram as at most 24 bar heights of 0…100 on a logarithmic scale."""
    if len(counts) > MINI_BINS:
        edges = np.arange(MINI_BINS) * len(counts) // MINI_BINS
        counts = np.add.reduceat(counts.astype(np.int64), edges)
    heights = np.log1p(counts.astype(np.float64))
    top = heights.max(initial=0.0)
    return [] if top == 0 else (heights / top * 100).round().astype(int).tolist()


def class_counts(atlas: Atlas, features: NDArray[np.int64]) -> dict[tuple[str, str], int]:
    """Return how many of some features are named after each class, `(label, kind)`."""
    named = atlas.column("label")
    named = named if len(features) == len(named) else named[features]
    counts = np.bincount(named[named >= 0], minlength=len(atlas.classes))
    return {atlas.classes[i]: int(counts[i]) for i in np.flatnonzero(counts).tolist()}


def scored_as(atlas: Atlas, row: int) -> dict[str, Any] | None:
    """Return label, kind and figures of one row of `labels.safetensors`; None for no row (−1)."""
    if row < 0:
        return None
    file = atlas.sealed.arrays(LABELS)
    label, kind = atlas.classes[int(file.read("class", row, row + 1)[0])]
    return {"label": label, "label_kind": kind, **{name: file.read(name, row, row + 1)[0].item() for name in FIGURES}}
