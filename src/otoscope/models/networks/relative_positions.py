"""WavLM's attention bias: how far a key lies from a query, weighed by what the query hears (Chen et al. 2022, §III-B).

The bias of a head is a number per distance times a gate per query. The numbers of all distances between T frames fit
in `[h, 2 T − 1]`; a row of the `[T, T]` map is a window of them, so maps are made by block and never stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from otoscope.models.networks.attention import ScoreBias


@dataclass(frozen=True, eq=False)
class ByDistance:
    """A bias that depends on the distance alone; `line [h, 2 T − 1]` from the farthest key before to that after."""

    line: Tensor

    @property
    def _n_frames(self) -> int:
        return (self.line.shape[-1] + 1) // 2

    def block(self, row: int, head: int, queries: slice) -> Tensor:
        """Return the bias `[q, k]` of some queries of one head."""
        t = self._n_frames
        first, stop, _ = queries.indices(t)
        return self.line[head].unfold(0, t, 1)[t - stop : t - first].flip(0)

    def whole(self) -> Tensor:
        """Return the bias `[1, h, q, k]`."""
        return self.line.unfold(1, self._n_frames, 1).flip(1)[None]


@dataclass(frozen=True, eq=False)
class Gated:
    """The same with a factor per query, `gate [b, h, q]`."""

    plain: ScoreBias
    gate: Tensor

    def block(self, row: int, head: int, queries: slice) -> Tensor:
        """Return the bias `[q, k]` of some queries of one head in one row of the batch."""
        return self.plain.block(row, head, queries) * self.gate[row, head, queries, None]

    def whole(self) -> Tensor:
        """Return the bias `[b, h, q, k]`."""
        return self.plain.whole() * self.gate[..., None]


class Distances(nn.Module):
    """A learned number per head and bucket of distances; all blocks share it.

    Half of the buckets are for keys before the query, half for keys after. In each half, half are for one distance
    each, the rest grow logarithmically up to `farthest`, beyond which all distances are one.
    """

    def __init__(self, n_buckets: int, n_heads: int, farthest: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_buckets, n_heads))
        self.farthest = farthest

    def forward(self, n_frames: int) -> ByDistance:
        """Return the bias among `n_frames` frames."""
        distances = torch.arange(1 - n_frames, n_frames, device=self.weight.device)
        return ByDistance(self.weight[self._buckets(distances)].T.contiguous())

    def _buckets(self, distances: Tensor) -> Tensor:
        half = len(self.weight) // 2
        exact = half // 2
        away = distances.abs()
        octaves = (away.clamp(min=1).float() / exact).log() / math.log(self.farthest / exact)
        far = (exact + octaves * (half - exact)).long().clamp(max=half - 1)
        return (distances > 0) * half + torch.where(away < exact, away, far)


class Gate(nn.Module):
    """What a block's queries make of the distances: factors `[b, h, q]` from what attention reads."""

    def __init__(self, n_heads: int, d_head: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_head, 2)
        self.constant = nn.Parameter(torch.empty(n_heads))

    def forward(self, x: Tensor, bias: ScoreBias) -> Gated:
        """Return `bias` weighed by what `x [b, t, d]` says."""
        by_head = x.view(*x.shape[:2], len(self.constant), -1)
        update, reset = self.linear(by_head).sigmoid().unbind(-1)
        gate = update * (reset * self.constant - 1.0) + 2.0
        return Gated(bias, gate.transpose(1, 2))
