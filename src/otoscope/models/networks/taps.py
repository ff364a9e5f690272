"""Taps: the thin layer between a running model and the sites that one call reads and edits.

The model's modules call `tap(site, tensor)` wherever a site is met. What that does is decided by the `Tape` of the
call they run in, found through a context variable: two threads (or two nested calls) never meet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.edits import BoundEdit
from otoscope.models.sites import Site

Watcher = Callable[[Tensor, int, int], None]
"""Called with a block `[h, q, k]` of an attention map, its row of the batch and its first query."""


class DeepestSiteReached(Exception):  # noqa: N818 (not an error: it ends a forward pass early)
    """Raised inside the model when everything asked for has been read."""


class Tape:
    """What one call reads, watches and edits, and what it has read so far.

    `edits` concern every row of the batch; `row_edits[i]` row i alone. `starts_s[i]` is the moment of the clip at
    which row i's window begins; `position` the number of tokens that the decoder has seen before this call.

    A sweep may enter the network as one row: it parts into `len(row_edits)` rows where the first edit of a row is met,
    so that what comes before is computed once.
    """

    def __init__(
        self,
        reads: Iterable[Site] = (),
        edits: Sequence[BoundEdit] = (),
        starts_s: Sequence[float] = (),
        *,
        row_edits: Sequence[Sequence[BoundEdit]] = (),
        watchers: Mapping[str, Watcher] | None = None,
    ) -> None:
        self.starts_s = starts_s
        self.position = 0
        self.n_rows = len(row_edits)
        """Rows of a sweep; 0 without one."""
        self.values: dict[str, Tensor] = {}
        """Tensors read, by `Site.base`; of maps, the heads asked for (see `heads`)."""
        self.heads: dict[str, list[int] | None] = {}
        """Of each map read, which heads are kept (None: all)."""
        self._watchers = dict(watchers or {})
        self._missing = {site.base for site in reads} | set(self._watchers)
        self._reads = {site.base for site in reads}
        self._edits: dict[str, list[tuple[BoundEdit, int | None]]] = {}
        for site in reads:
            if site.is_map:
                self._want_head(site)
        for edit in edits:
            self._edits.setdefault(edit.site.base, []).append((edit, None))
        for row, row_list in enumerate(row_edits):
            for edit in row_list:
                self._edits.setdefault(edit.site.base, []).append((edit, row))
        listed = (edit for pairs in self._edits.values() for edit, _ in pairs)
        self._remembered: dict[str, Tensor | None] = {e.read_at.base: None for e in listed if e.read_at is not None}

    def _want_head(self, site: Site) -> None:
        heads = self.heads.setdefault(site.base, [])
        if site.head is None:
            self.heads[site.base] = None
        elif heads is not None and site.head not in heads:
            heads.append(site.head)

    def concerns(self, name: str) -> bool:
        """Whether this call reads, watches or edits the site `name`."""
        return any(name in asked for asked in (self._reads, self._edits, self._watchers, self._remembered))

    def parts(self, name: str) -> bool:
        """Whether the rows of a sweep differ at the site `name`."""
        return any(row is not None for _, row in self._edits.get(name, ()))

    def visit(self, name: str, value: Tensor) -> Tensor:
        """Edit and read `value [b, t, d]` at the site `name`; return what the model goes on with.

        Raises:
            DeepestSiteReached: this was the last site asked for.
        """
        if len(value) < self.n_rows and self.parts(name):
            value = value.expand(self.n_rows, *value.shape[1:])
        if name in self._edits:
            value = self._with_edits(name, value)
        if name in self._remembered:
            self._remembered[name] = value
        if name in self._reads:
            if torch.is_grad_enabled() and not value.requires_grad:
                value = value.detach().requires_grad_()
            self.values[name] = value
            self.done(name)
        return value

    def _with_edits(self, name: str, value: Tensor) -> Tensor:
        differentiable = torch.is_grad_enabled()  # then each edit needs its own copy
        value = value if differentiable else value.clone()
        for edit, row in self._edits[name]:
            rows = range(len(value)) if row is None else (row,)
            into = None if differentiable else value
            value = edit.apply(value, rows, self.starts_s, self.position, into, self._read_before(edit))
        return value

    def _read_before(self, edit: BoundEdit) -> Tensor | None:
        """What an edit reads at another site than the one it changes."""
        if edit.read_at is None:
            return None
        found = self._remembered[edit.read_at.base]
        if found is None:
            raise InputError(
                f"What is read at {edit.read_at} cannot change {edit.site}, which the model computes first."
            )
        return found

    def visit_block(
        self, name: str, block: Tensor, row: int, first: int, shape: Sequence[int], hidden: Tensor | None = None
    ) -> Tensor:
        """The same for a block `[h, q, k]` of a map `[b, h, q, k]` of `shape`, of row `row` from query `first` on.

        Keys that are `hidden [q, k]` from their query stay so, whatever an edit says.
        """
        block = self._edited(name, block, row, first, hidden)
        if name in self._watchers:
            self._watchers[name](block, row, first)
        if name in self._reads:
            heads = self.heads[name]
            if name not in self.values:
                kept = shape[1] if heads is None else len(heads)
                self.values[name] = block.new_empty(shape[0], kept, *shape[2:])
            chosen = block if heads is None else block[heads]
            self.values[name][row, :, first : first + block.shape[1]] = chosen
        return block

    def visit_map(self, name: str, value: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The same for a whole map `[b, h, q, k]` that gradients must flow through."""
        if name in self._edits or name in self._watchers:
            value = torch.stack([self._edited(name, block, row, 0, hidden) for row, block in enumerate(value)])
        if name in self._reads:
            if not value.requires_grad:
                value = value.detach().requires_grad_()
            self.values[name] = value
            self.heads[name] = None
        return value

    def done(self, name: str) -> None:
        """Note that the site `name` has been met entirely.

        Raises:
            DeepestSiteReached: this was the last site asked for.
        """
        if name in self._missing:
            self._missing.remove(name)
            if not self._missing:
                raise DeepestSiteReached

    def read(self, site: Site, n_heads: int) -> Tensor:
        """Return what was read at `site`: its head alone, where it names one."""
        value = self.values[site.base]
        if len(value) < self.n_rows:
            value = value.expand(self.n_rows, *value.shape[1:])
        if site.head is None:
            return value
        if site.is_map:
            heads = self.heads[site.base]
            return value[:, site.head if heads is None else heads.index(site.head)]
        width = value.shape[-1] // n_heads
        return value[..., site.head * width : (site.head + 1) * width]

    def _edited(self, name: str, block: Tensor, row: int, first: int, hidden: Tensor | None) -> Tensor:
        """A block of a map after the edits of its row."""
        if name not in self._edits:
            return block
        for edit, only in self._edits[name]:
            if only is None or only == row:
                block = edit.apply_block(block, first, self.position, self.starts_s[row] if self.starts_s else 0.0)
        return block if hidden is None else block.masked_fill(hidden, -torch.inf if name.endswith("scores") else 0.0)


_TAPE: ContextVar[Tape | None] = ContextVar("otoscope_tape", default=None)


def current_tape() -> Tape | None:
    """Return the tape of the call this code runs in, if any."""
    return _TAPE.get()


def tap(name: str, value: Tensor) -> Tensor:
    """Let the current call read and edit `value [b, t, d]` at the site `name`; return what the model goes on with."""
    tape = _TAPE.get()
    return value if tape is None else tape.visit(name, value)


@contextlib.contextmanager
def recording(tape: Tape) -> Iterator[Tape]:
    """Let the taps of the block's forward pass serve `tape`; the block ends early once all reads are done."""
    token = _TAPE.set(tape)
    try:
        with contextlib.suppress(DeepestSiteReached):
            yield tape
    finally:
        _TAPE.reset(token)
