"""The text decoder, a few tokens at a time: what it has read, and the edits that every row of the batch is under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from otoscope.models.edits import BoundEdit
from otoscope.models.networks.taps import Tape, recording
from otoscope.models.networks.whisper import Memory


@dataclass(frozen=True, eq=False)
class RowEdits:
    """The edits of a batch of windows: those of every row, those of each row alone, and when each window begins."""

    edits: Sequence[BoundEdit] = ()
    of_rows: Sequence[Sequence[BoundEdit]] = ()
    starts_s: Sequence[float] = ()

    def select(self, rows: Sequence[int]) -> RowEdits:
        """Return the edits of a batch whose row i is row `rows[i]` of this one."""
        return RowEdits(
            self.edits,
            [self.of_rows[row] for row in rows] if self.of_rows else (),
            [self.starts_s[row] for row in rows] if self.starts_s else (),
        )

    def tape(self) -> Tape:
        """Return a tape that makes the edits."""
        return Tape((), self.edits, self.starts_s, row_edits=self.of_rows)


class Steps:
    """Feeds tokens to the decoder, which remembers those before; edits count positions from the first token fed."""

    def __init__(self, module: Any, encoded: Tensor, edits: RowEdits | None = None) -> None:
        self.module = module
        self.encoded = encoded
        self.edits = edits or RowEdits()
        self.memory = Memory(len(module.decoder.blocks))
        self._tape = self.edits.tape()

    def __call__(self, ids: Tensor) -> Tensor:
        """Append `ids [b, n]` and return the scores `[b, v]` of the token after them, in float32."""
        # an edit of logits must see which row is which token, so that all rows are computed for it
        return self._decode(ids, last_only=not self._tape.concerns("logits"))[:, -1]

    def all_logits(self, ids: Tensor) -> Tensor:
        """Append `ids [b, n]` and return the scores `[b, n, v]` of the token after each."""
        return self._decode(ids, last_only=False)

    def _decode(self, ids: Tensor, *, last_only: bool) -> Tensor:
        self._tape.position = self.memory.position
        with recording(self._tape):
            logits: Tensor = self.module.decode(ids, self.encoded, self.memory, last_only=last_only)
        return logits

    def spread(self, n: int) -> None:
        """Make n rows of each, which go on separately."""
        if n > 1:
            rows = [row for row in range(len(self.encoded)) for _ in range(n)]
            self.memory.spread(n)
            self.encoded = self.encoded.repeat_interleave(n, 0)
            self.edits = self.edits.select(rows)
            self._tape = self.edits.tape()

    def reorder(self, rows: Sequence[int]) -> None:
        """Let row i go on from what row `rows[i]` of the same window has read."""
        if list(rows) != list(range(len(rows))):
            self.memory.reorder(torch.tensor(rows, device=self.encoded.device))
