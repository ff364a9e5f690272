"""What each operation does to the numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from otoscope.models.edits.edit import Edit, FeatureReader, Reconstructor

Change = Callable[[Tensor, int, int], Tensor]
"""From the selected columns of some rows, `x [n, c]` (of maps, whole rows `[h, q, k]` or `[q, k]`), to what they
become; with them come the number of the first row within its window and how many rows lie before that window."""


def change_columns(edit: Edit, vector: Tensor | None, source: Tensor | None) -> Change:
    """Return what the operation does to values of which `vector [c]` and `source [n, c]` are on a par."""
    return _CHANGES[edit.op](edit, vector, source)


def change_features(edit: Edit, reader: FeatureReader, directions: Tensor, source: Tensor | None) -> Change:
    """Return the same for features of a dictionary: what their values change by, written along their directions."""
    assert edit.features is not None
    features = edit.features
    theirs = None if source is None else reader.feature_values(source, features).to(source)
    operate = change_columns(edit, edit.vector, theirs)
    scale_of = getattr(reader, "feature_scale", lambda h: None)

    def change(x: Tensor, first: int, before: int) -> Tensor:
        h = x if x.dtype == torch.float64 else x.float()
        values = reader.feature_values(h, features).to(h)
        changed = (operate(values, first, before) - values) @ directions.to(h)
        scale = scale_of(h)
        return h + (changed if scale is None else changed * scale.to(h))

    return change


def change_by_reconstruction(dictionary: Reconstructor) -> Change:
    """Return what splicing does: rows become their reconstruction."""
    return lambda x, first, before: dictionary.reconstruct(x.float()).to(x)


WideChange = Callable[[Tensor, Tensor, slice, int, int], Tensor]
"""From all rows of a window, `x [t, d]`, and what is read for them, `h [t, d_in]` (`x` itself, or another site), to
what they become where the rows of the slice are changed; the numbers are those of `Change`."""


def change_features_widely(edit: Edit, reader: FeatureReader, source: Tensor | None) -> WideChange:
    """Return what `change_features` does, for features that are read elsewhere or reach beyond their own row."""
    assert edit.features is not None
    features = edit.features
    theirs = None if source is None else reader.feature_values(source, features).to(source)
    operate = change_columns(edit, edit.vector, theirs)
    spread = getattr(reader, "spread", None)

    def change(x: Tensor, h: Tensor, rows: slice, first: int, before: int) -> Tensor:
        values = reader.feature_values(h.float(), features).float()
        added = torch.zeros_like(values)
        added[rows] = operate(values[rows], first, before) - values[rows]
        pieces = added @ reader.directions(features).to(added) if spread is None else spread(added, features)
        return x + pieces.to(x)

    return change


def change_by_reconstruction_widely(dictionary: Reconstructor) -> WideChange:
    """Return what splicing does, for dictionaries that read elsewhere or look at neighbouring rows."""

    def change(x: Tensor, h: Tensor, rows: slice, first: int, before: int) -> Tensor:
        changed = x.clone()
        changed[rows] = dictionary.reconstruct(h.float())[rows].to(x)
        return changed

    return change


def _zero(edit: Edit, vector: Tensor | None, source: Tensor | None) -> Change:
    return lambda x, first, before: torch.zeros_like(x)


def _mean(edit: Edit, vector: Tensor | None, source: Tensor | None) -> Change:
    assert vector is not None
    return lambda x, first, before: vector.to(x).expand_as(x)


def _scale(edit: Edit, vector: Tensor | None, source: Tensor | None) -> Change:
    return lambda x, first, before: x * edit.value


def _add(edit: Edit, vector: Tensor | None, source: Tensor | None) -> Change:
    if vector is None:
        return lambda x, first, before: x + edit.value
    return lambda x, first, before: x + vector.to(x)


def _clamp(edit: Edit, vector: Tensor | None, source: Tensor | None) -> Change:
    return lambda x, first, before: torch.full_like(x, edit.value)


def _limit(edit: Edit, vector: Tensor | None, source: Tensor | None) -> Change:
    return lambda x, first, before: x.clamp(edit.low, edit.high)


def _patch(edit: Edit, vector: Tensor | None, source: Tensor | None) -> Change:
    assert source is not None

    def change(x: Tensor, first: int, before: int) -> Tensor:
        start = first + before + edit.offset
        theirs = source[..., start : start + x.shape[-2], :].to(x)
        n_keys = theirs.shape[-1]
        return theirs if n_keys == x.shape[-1] else torch.cat([theirs, x[..., n_keys:]], -1)[..., : x.shape[-1]]

    return change


def _resample(edit: Edit, vector: Tensor | None, source: Tensor | None) -> Change:
    assert source is not None

    def change(x: Tensor, first: int, before: int) -> Tensor:
        rows = torch.arange(first + before, first + before + len(x)) % len(source)
        return source[rows].to(x)

    return change


def _band(edit: Edit, vector: Tensor | None, source: Tensor | None) -> Change:
    def change(x: Tensor, first: int, before: int) -> Tensor:
        queries = torch.arange(first, first + x.shape[-2], device=x.device)
        distance = (queries[:, None] - torch.arange(x.shape[-1], device=x.device)).abs()
        return x.masked_fill(distance > edit.value, -torch.inf)

    return change


_CHANGES: dict[str, Callable[[Edit, Tensor | None, Tensor | None], Change]] = {
    "zero": _zero,
    "mean": _mean,
    "scale": _scale,
    "add": _add,
    "clamp": _clamp,
    "limit": _limit,
    "patch": _patch,
    "resample": _resample,
    "band": _band,
}
