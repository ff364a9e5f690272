"""Edits: interventions at a site, or on features of a dictionary, during one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.clock import Clock
from otoscope.models.dims import Dims
from otoscope.models.sites import Site, parse_site

Op = Literal["zero", "scale", "add", "clamp"]


class FeatureReader(Protocol):
    """What an edit needs of a dictionary: a feature's value in each frame and the direction it writes."""

    @property
    def site(self) -> str:
        """Canonical name of the site it reads."""

    def feature_values(self, h: Tensor, features: Sequence[int]) -> Tensor:
        """Return the values `[…, len(features)]` of features of activations `h [..., d]`."""

    def directions(self, features: Sequence[int]) -> Tensor:
        """Return the directions `[len(features), d]` that the features add to the reconstruction."""


@dataclass(frozen=True, eq=False)
class Edit:
    """One intervention: `op` on chosen columns (`units`) or dictionary `features` of a site, in a time range.

    - `zero` sets to 0, `scale` multiplies by `value`, `add` adds `value` (or `vector`), `clamp` sets to `value`.
    - `time_s = (start, end)` in seconds of the clip limits the edit to frames centred inside; without it every
      position changes, padding included. On attention maps it selects query frames, and `units` key frames.
    - Feature edits keep the reconstruction error: `h' = h + (f'(h) − f(h)) @ directions`; nothing else changes.

    Raises:
        InputError: unknown operation, a value or vector that is not finite, an empty time range or selection.
    """

    site: str
    op: Op
    value: float = 0.0
    vector: Tensor | None = None
    time_s: tuple[float, float] | None = None
    units: tuple[int, ...] | None = None
    features: tuple[int, ...] | None = None
    dictionary: FeatureReader | None = None

    def __post_init__(self) -> None:
        if self.op not in get_args(Op):
            raise InputError(f"There is no edit {self.op!r}; the edits are {', '.join(get_args(Op))}.")
        if not math.isfinite(self.value):
            raise InputError(f"The value of an edit must be a finite number, not {self.value}.")
        if self.vector is not None and not bool(torch.isfinite(self.vector).all()):
            raise InputError(f"The vector added at {self.site} contains NaN or infinity.")
        if self.time_s is not None:
            start, end = self.time_s
            if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
                raise InputError(
                    f"An edit's time range must be start < end in seconds from 0, not {start:g} to {end:g}."
                )
        for what, chosen in (("units", self.units), ("features", self.features)):
            if chosen is not None and len(chosen) == 0:
                raise InputError(f"The edit at {self.site} selects no {what}; give at least one, or None for all.")
        if (self.features is None) != (self.dictionary is None):
            raise InputError("A feature edit needs both `features` and the `dictionary` they belong to.")
        if self.features is not None and (self.units is not None or self.vector is not None):
            raise InputError("A feature edit takes `value`, not `units` or a `vector`.")
        if self.vector is not None and self.op != "add":
            raise InputError(f"A vector can be added, but {self.op!r} takes no vector.")

    @classmethod
    def zero(cls, site: str, *, units: Sequence[int] | None = None, time_s: tuple[float, float] | None = None) -> Edit:
        """Set to zero."""
        return cls(site, "zero", units=_tuple(units), time_s=time_s)

    @classmethod
    def scale(
        cls,
        site: str,
        factor: float,
        *,
        units: Sequence[int] | None = None,
        time_s: tuple[float, float] | None = None,
    ) -> Edit:
        """Multiply by `factor`."""
        return cls(site, "scale", value=factor, units=_tuple(units), time_s=time_s)

    @classmethod
    def add(
        cls,
        site: str,
        what: float | Tensor | Sequence[float],
        *,
        alpha: float = 1.0,
        units: Sequence[int] | None = None,
        time_s: tuple[float, float] | None = None,
    ) -> Edit:
        """Add a number, or `alpha` times a vector as wide as the site (or as the selection of units)."""
        if isinstance(what, int | float):
            return cls(site, "add", value=alpha * what, units=_tuple(units), time_s=time_s)
        vector = torch.as_tensor(what, dtype=torch.float32) * alpha
        return cls(site, "add", vector=vector, units=_tuple(units), time_s=time_s)

    @classmethod
    def clamp(
        cls,
        site: str,
        value: float,
        *,
        units: Sequence[int] | None = None,
        time_s: tuple[float, float] | None = None,
    ) -> Edit:
        """Set to `value`."""
        return cls(site, "clamp", value=value, units=_tuple(units), time_s=time_s)

    @property
    def is_identity(self) -> bool:
        """Whether the edit changes nothing by definition (scale by 1, add 0)."""
        if self.op == "add":
            return self.value == 0 if self.vector is None else not bool(self.vector.any())
        return self.op == "scale" and self.value == 1


def _tuple(units: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if units is None else tuple(int(unit) for unit in units)


@dataclass(frozen=True, eq=False)
class BoundEdit:
    """An edit checked against a model: ready to be applied to the tensor met at `site.base`."""

    edit: Edit
    site: Site
    columns: slice | Tensor
    change: Callable[[Tensor], Tensor]
    clock: Clock | None
    """Which moment each position stands for; None where positions are tokens."""

    def apply(self, value: Tensor, rows: Iterable[int], starts_s: Sequence[float], position: int) -> Tensor:
        """Return `value [b, t, d]` with the edit made in `rows`; `value` itself stays as it was.

        `starts_s[b]` is the moment of the clip at which row b's window begins; `position` the number of tokens
        before the first one here.
        """
        edited = value.clone()
        for row in rows:
            first, stop = self._span(value.shape[1], position, starts_s[row] if starts_s else 0.0)
            if first < stop:
                where = (row, slice(first, stop), self.columns)
                edited[where] = self.change(value[where]).to(value.dtype)
        return edited

    def apply_block(self, block: Tensor, first_query: int, start_s: float) -> Tensor:
        """Return a block `[h, q, k]` of an attention map, whose first query is `first_query`, with the edit made."""
        first, stop = self._span(block.shape[1], first_query, start_s)
        if first >= stop:
            return block
        edited = block.clone()
        heads = slice(None) if self.site.head is None else self.site.head
        where = (heads, slice(first, stop), self.columns)
        edited[where] = self.change(block[where]).to(block.dtype)
        return edited

    def _span(self, length: int, position: int, start_s: float) -> tuple[int, int]:
        """Which of `length` positions, the first being number `position` of its window, the edit concerns."""
        if self.clock is None or self.edit.time_s is None:
            return 0, length
        first, stop = self.clock.span(*self.edit.time_s)
        offset = position + round(start_s * self.clock.positions_hz)
        return max(0, first - offset), min(length, stop - offset)


def bind_edits(edits: Sequence[Edit], dims: Dims, duration_s: float | None = None) -> list[BoundEdit]:
    """Check edits against a model (and, with `duration_s`, a clip); edits that change nothing are dropped.

    Raises:
        InputError: unknown or read-only site, unit out of range, vector of the wrong width, a dictionary of
            another site, or a time range that begins after the clip's end.
    """
    bound = [_bind(edit, dims, duration_s) for edit in edits]
    return [item for item in bound if not item.edit.is_identity]


def _bind(edit: Edit, dims: Dims, duration_s: float | None) -> BoundEdit:
    if not isinstance(edit, Edit):
        raise InputError(f"Edits are made with `Edit.zero(site)` and its like; got {type(edit).__name__}.")
    site = parse_site(edit.site, dims)
    if not site.row.writable:
        raise InputError(f"The site {site} can be read but not edited.")
    if edit.time_s is not None and duration_s is not None and edit.time_s[0] >= duration_s:
        raise InputError(f"The edit at {site} begins at {edit.time_s[0]:g} s, but the clip ends at {duration_s:.2f} s.")
    change = _feature_change(edit, site, dims) if edit.dictionary is not None else _column_change(edit, site, dims)
    of_text = site.of_text(dims)
    if of_text and edit.time_s is not None:
        raise InputError(f"The positions of {site} are tokens, so an edit there takes no time range.")
    return BoundEdit(edit, site, _columns(edit, site, dims), change, None if of_text else site.clock(dims))


def _columns(edit: Edit, site: Site, dims: Dims) -> slice | Tensor:
    width = site.width(dims)
    offset = 0 if site.head is None or site.is_map else site.head * width
    if edit.units is None:
        return slice(None) if site.is_map else slice(offset, offset + width)
    for unit in edit.units:
        if not 0 <= unit < width:
            raise InputError(f"{site} has no unit {unit}; its units are 0 to {width - 1}.")
    if len(set(edit.units)) != len(edit.units):
        raise InputError(f"The edit at {site} names a unit twice.")
    return torch.tensor(edit.units) + offset


def _operate(op: Op, value: float) -> Callable[[Tensor], Tensor]:
    operations: dict[Op, Callable[[Tensor], Tensor]] = {
        "zero": torch.zeros_like,
        "scale": lambda x: x * value,
        "add": lambda x: x + value,
        "clamp": lambda x: torch.full_like(x, value),
    }
    return operations[op]


def _column_change(edit: Edit, site: Site, dims: Dims) -> Callable[[Tensor], Tensor]:
    vector = edit.vector
    if vector is None:
        return _operate(edit.op, edit.value)
    width = len(edit.units) if edit.units is not None else site.width(dims)
    if tuple(vector.shape) != (width,):
        raise InputError(f"The vector added at {site} has shape {tuple(vector.shape)}; it must have shape ({width},).")
    return lambda x: x + vector.to(x)


def _feature_change(edit: Edit, site: Site, dims: Dims) -> Callable[[Tensor], Tensor]:
    reader, features = edit.dictionary, edit.features
    assert reader is not None
    assert features is not None
    if site.is_map:
        raise InputError(f"{site} is an attention map; features are edited at sites with one vector per frame.")
    home = parse_site(reader.site, dims)
    if home != site:
        raise InputError(f"The dictionary belongs to {home}, so its features cannot be edited at {site}.")
    directions = reader.directions(features).detach().float()
    if tuple(directions.shape) != (len(features), site.width(dims)):
        raise InputError(
            f"The dictionary's directions have shape {tuple(directions.shape)}, but {site} of this model is "
            f"{site.width(dims)} wide; use the model the dictionary was made for."
        )
    if not bool(torch.isfinite(directions).all()):
        raise InputError(f"The directions of features {list(features)} contain NaN or infinity.")
    operate = _operate(edit.op, edit.value)

    def change(x: Tensor) -> Tensor:
        h = x.float()
        values = reader.feature_values(h, features).to(h)
        return h + (operate(values) - values) @ directions.to(h)

    return change
