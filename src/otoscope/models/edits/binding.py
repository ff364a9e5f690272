"""An edit held against a model: refused with a reason, or ready to be applied to the tensors of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.clock import Clock
from otoscope.models.dims import Dims
from otoscope.models.edits.changes import (
    Change,
    WideChange,
    change_by_reconstruction,
    change_by_reconstruction_widely,
    change_columns,
    change_features,
    change_features_widely,
)
from otoscope.models.edits.edit import Edit, FeatureReader, Reconstructor
from otoscope.models.sites import Site, parse_site


@dataclass(frozen=True, eq=False)
class BoundEdit:
    """An edit checked against a model: ready to be applied to the tensor met at `site.base`."""

    edit: Edit
    site: Site
    columns: slice | Tensor
    """Of maps: which keys; `keys_s` chooses among them in each window."""
    change: Change | WideChange
    """A `WideChange` where `wide`."""
    clock: Clock | None
    """Which moment each row stands for; None where rows are tokens."""
    rows: tuple[int, int] | None
    """Which rows change, `(first, stop)`: frames of the clip, or tokens of the decoder's input; None: all."""
    key_clock: Clock | None = None
    """Of maps: which moment each key stands for; None where keys are tokens."""
    read_at: Site | None = None
    """Where features are read, if not at `site`; what is there must be given to `apply` as `read`."""
    wide: bool = False

    def apply(
        self,
        value: Tensor,
        rows: Iterable[int],
        starts_s: Sequence[float],
        position: int,
        into: Tensor | None = None,
        read: Tensor | None = None,
    ) -> Tensor:
        """Return `value [b, t, d]` with the edit made in rows of the batch, written `into` it or a copy of it.

        `starts_s[b]` is the moment of the clip at which row b's window begins; `position` the number of tokens
        before the first one here.
        """
        edited = value.clone() if into is None else into
        for row in rows:
            first, before = self._place(position, starts_s[row] if starts_s else 0.0)
            start, stop = self._span(value.shape[1], first + before)
            if start >= stop:
                continue
            if self.wide:
                source = value[row] if read is None else read[row if row < len(read) else 0]
                change = cast(WideChange, self.change)
                edited[row] = change(value[row], source, slice(start, stop), first + start, before).to(value.dtype)
                continue
            changed = cast(Change, self.change)(value[row, start:stop, self.columns], first + start, before)
            edited[row, start:stop, self.columns] = changed.to(value.dtype)
        return edited

    def apply_block(self, block: Tensor, first_query: int, position: int, start_s: float) -> Tensor:
        """Return a block `[h, q, k]` of a map with the edit made; its first query is number `first_query`, after
        `position` tokens."""
        first, before = self._place(position, start_s)
        first += first_query
        start, stop = self._span(block.shape[1], first + before)
        if start >= stop:
            return block
        heads = slice(None) if self.site.head is None else self.site.head
        columns = self._keys(block.shape[2], start_s)
        changed = cast(Change, self.change)(block[heads, start:stop], first + start, before)
        edited = block.clone()
        edited[heads, start:stop, columns] = changed[..., columns].to(block.dtype)
        return edited

    def _place(self, position: int, start_s: float) -> tuple[int, int]:
        """The number of the first row within its window, and how many rows lie before the window."""
        return (position, 0) if self.clock is None else (0, round(start_s * self.clock.positions_hz))

    def _span(self, length: int, number: int) -> tuple[int, int]:
        """Which of `length` rows change, the first of them being row `number`."""
        first, stop = self.rows or (number, number + length)
        if self.edit.op == "patch" and self.edit.source is not None:
            first = max(first, -self.edit.offset)
            stop = min(stop, self.edit.source.shape[-2] - self.edit.offset)
        return max(0, first - number), min(length, stop - number)

    def _keys(self, n_keys: int, start_s: float) -> slice | Tensor:
        if isinstance(self.columns, Tensor):
            return self.columns[self.columns < n_keys]
        if self.edit.keys_s is None or self.key_clock is None:
            return self.columns
        before = round(start_s * self.key_clock.positions_hz)
        first, stop = self.key_clock.span(*self.edit.keys_s)
        return slice(max(0, first - before), max(0, min(n_keys, stop - before)))


def bind_edits(edits: Sequence[Edit], dims: Dims, duration_s: float | None = None) -> list[BoundEdit]:
    """Check edits against a model (and, with `duration_s`, a clip); edits that change nothing are dropped.

    Raises:
        InputError: unknown or read-only site, unit out of range, activations of the wrong width, a dictionary of
            another site, a range that the site does not have, or one that begins after the clip's end.
    """
    if isinstance(edits, Edit):
        raise InputError("Edits are given as a list, even a single one: edits=[edit].")
    bound = [_bind(edit, dims, duration_s) for edit in edits]
    return [item for item in bound if not _changes_nothing(item, dims)]


def _changes_nothing(bound: BoundEdit, dims: Dims) -> bool:
    if bound.edit.op == "band":
        return bound.edit.value >= bound.site.width(dims) - 1
    return bound.edit.is_identity


def _bind(edit: Edit, dims: Dims, duration_s: float | None) -> BoundEdit:
    if not isinstance(edit, Edit):
        raise InputError(f"Edits are made with `Edit.zero(site)` and its like; got {type(edit).__name__}.")
    site = parse_site(edit.site, dims)
    if not site.row.writable:
        raise InputError(f"The site {site} can be read but not edited.")
    clock = None if site.of_text(dims) else site.clock(dims)
    key_clock = _key_clock(site, dims)
    _check_op(edit, site)
    _check_ranges(edit, site, clock, key_clock, duration_s)
    if edit.tokens is not None and edit.tokens[0] >= dims.n_text_positions:
        raise InputError(
            f"The edit at {site} begins at token {edit.tokens[0]}; the decoder reads {dims.n_text_positions} at most."
        )
    columns = _columns(edit, site, dims)
    wide, read_at = _reach(edit, site, dims)
    change: Change | WideChange
    if edit.op == "splice":
        change = _splice(edit, read_at or site, dims, wide)
    elif edit.dictionary is not None:
        change = _feature_change(edit, site, read_at or site, dims, wide)
    else:
        vector = _fitted(edit.vector, edit, site, dims, columns)
        change = change_columns(edit, vector, _fitted(edit.source, edit, site, dims, columns))
    return BoundEdit(edit, site, columns, change, clock, _rows(edit, clock), key_clock, read_at, wide)


def _reach(edit: Edit, site: Site, dims: Dims) -> tuple[bool, Site | None]:
    """Whether an edit with a dictionary needs all rows of a window, and where it reads, if not where it writes.

    Raises:
        InputError: the dictionary belongs to other sites, or cannot be edited in a run.
    """
    dictionary = edit.dictionary
    if dictionary is None:
        return False, None
    if site.is_map:
        raise InputError(f"{site} is an attention map; features are edited at sites with one vector per frame.")
    if len(getattr(dictionary, "sites", ())) > 1:
        raise InputError(
            f"Features of a dictionary that reads {len(dictionary.sites)} sites at once are known only when the last "  # type: ignore[union-attr]
            "of them is reached, so they cannot be edited at the first; add their directions with Edit.add instead."
        )
    home = parse_site(getattr(dictionary, "target_site", dictionary.site), dims)
    if home != site:
        raise InputError(f"The dictionary belongs to {home}, so it cannot be used at {site}.")
    read = parse_site(dictionary.site, dims)
    elsewhere = None if read == site else read
    return elsewhere is not None or bool(getattr(dictionary, "context", 0)), elsewhere


def _key_clock(site: Site, dims: Dims) -> Clock | None:
    if not site.is_map or (site.of_text(dims) and site.kind.startswith("attn")):
        return None
    return parse_site("encoder.embed", dims).clock(dims)


def _check_op(edit: Edit, site: Site) -> None:
    if edit.op == "band" and not (site.kind == "attn.scores"):
        raise InputError(f"A band limits attention between positions of one kind, as in encoder.2.attn, not at {site}.")
    if site.is_map and edit.op in ("resample", "splice", "mean"):
        raise InputError(f"{site} is an attention map, which {edit.op!r} does not fit; use the head's z instead.")
    if site.is_map and edit.offset:
        raise InputError(f"{site} is an attention map, so what is patched there takes no offset.")
    if not site.is_map and edit.keys_s is not None:
        raise InputError(f"{site} has no keys; keys_s belongs to attention scores and patterns.")


def _check_ranges(
    edit: Edit, site: Site, clock: Clock | None, key_clock: Clock | None, duration_s: float | None
) -> None:
    if clock is None and (edit.time_s is not None or edit.frames is not None):
        instead = "keys_s for its key frames, tokens for its queries" if key_clock else "tokens"
        raise InputError(f"The positions of {site} are tokens, so an edit there takes no time range; use {instead}.")
    if clock is not None and edit.tokens is not None:
        raise InputError(f"The positions of {site} are moments of the sound, so an edit there takes no token range.")
    if site.is_map and key_clock is None and edit.keys_s is not None:
        raise InputError(f"The keys of {site} are tokens; choose them with units.")
    if duration_s is None:
        return
    starts = [span[0] for span in (edit.time_s, edit.keys_s) if span is not None]
    if edit.frames is not None and clock is not None:
        starts.append(clock.time_s(edit.frames[0]))
    if starts and max(starts) >= duration_s:
        raise InputError(f"The edit at {site} begins at {max(starts):g} s, but the clip ends at {duration_s:.2f} s.")


def _rows(edit: Edit, clock: Clock | None) -> tuple[int, int] | None:
    if edit.time_s is not None and clock is not None:
        return clock.span(*edit.time_s)
    return edit.frames or edit.tokens


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


def _fitted(given: Tensor | None, edit: Edit, site: Site, dims: Dims, columns: slice | Tensor) -> Tensor | None:
    """The columns of a vector or of another run's activations that the edit concerns."""
    if given is None:
        return None
    if site.is_map:
        n_axes = 3 if site.head is None else 2
        if edit.op != "patch" or given.ndim != n_axes or (n_axes == 3 and len(given) != site.n_heads(dims)):
            raise InputError(
                f"{site} is an attention map: numbers can be set there, or a map of the same heads patched in."
            )
        return given
    parts: dict[int, slice | Tensor] = {len(edit.units) if edit.units is not None else site.width(dims): slice(None)}
    if site.head is not None:
        parts.setdefault(site.width(dims), torch.tensor(edit.units) if edit.units is not None else slice(None))
    parts.setdefault(parse_site(site.base, dims).width(dims), columns)
    if given.shape[-1] not in parts:
        wanted = " or ".join(str(width) for width in parts)
        raise InputError(
            f"The activations given for {site} have shape {tuple(given.shape)}, but the edit there concerns "
            f"{wanted} columns."
        )
    if not given.shape[0]:
        raise InputError(f"The run given for {site} has no positions.")
    return given[..., parts[given.shape[-1]]]


def _splice(edit: Edit, site: Site, dims: Dims, wide: bool) -> Change | WideChange:
    """What splicing changes; `site` is where the dictionary reads."""
    dictionary = edit.dictionary
    if not isinstance(dictionary, Reconstructor):
        raise InputError(f"A {type(dictionary).__name__} has no reconstruction to splice in.")
    width = getattr(dictionary, "d_in", site.width(dims))
    if width != site.width(dims):
        raise InputError(
            f"The dictionary reads activations {width} wide, but {site} of this model is "
            f"{site.width(dims)} wide; use the model the dictionary was made for."
        )
    return change_by_reconstruction_widely(dictionary) if wide else change_by_reconstruction(dictionary)


def _feature_change(edit: Edit, site: Site, read_at: Site, dims: Dims, wide: bool) -> Change | WideChange:
    reader, features = edit.dictionary, edit.features
    assert features is not None
    if not isinstance(reader, FeatureReader):
        raise InputError(f"A {type(reader).__name__} has no features to edit.")
    directions = reader.directions(features).detach().float()
    if tuple(directions.shape) != (len(features), site.width(dims)):
        raise InputError(
            f"The dictionary's directions have shape {tuple(directions.shape)}, but {site} of this model is "
            f"{site.width(dims)} wide; use the model the dictionary was made for."
        )
    if not bool(torch.isfinite(directions).all()):
        raise InputError(f"The directions of features {list(features)} contain NaN or infinity.")
    if edit.vector is not None and len(edit.vector) != len(features):
        raise InputError(f"The vector has {len(edit.vector)} values for {len(features)} features; give one for each.")
    source = edit.source
    if source is not None and source.shape[-1] != read_at.width(dims):
        raise InputError(f"The run's activations at {read_at} are {source.shape[-1]} wide, not {read_at.width(dims)}.")
    if wide:
        return change_features_widely(edit, reader, source)
    return change_features(edit, reader, directions, source)
