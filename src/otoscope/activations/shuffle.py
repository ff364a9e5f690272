"""Frames in random order, reproducible from a seed and an epoch, with bounded memory.

The unit that is shuffled is a segment: one frame, or several adjacent frames of one clip. The order depends on the
frames alone, never on how many sites are read, so that what is trained on one site sees the same rows in any company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

POOL_FRAMES = 1 << 18
"""A selection up to this size (87 minutes of sound) is permuted as a whole; of a larger one, this many at a time."""
BLOCK_FRAMES = 1 << 10
"""Frames that are read together (0.8 MB of a site of width 384)."""

Span = tuple[int, int]
Block = list[Span]
"""Spans `(start, stop)` of frames that are read together; none spans two clips where segments matter."""
ReadBlocks = Callable[[Sequence[Block]], list[Tensor]]
"""Returns the frames of some blocks, in their order, `[frames, d]` of each site, in the stored 16-bit type."""


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """The same rows of several sites.

    Attributes:
        frames: float32 `[t, d]` of each site; `t` is a multiple of `segment`.
        segment: rows come in runs of this many adjacent frames of one clip.
        inside: `[t]` bool, False for rows past the end of a clip (they hold zeros); None: all rows are frames.
    """

    frames: dict[str, Tensor]
    segment: int = 1
    inside: Tensor | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self.frames.values())))


def shuffled_batches(
    read: ReadBlocks,
    blocks: Sequence[Block],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    segment: int = 1,
    skip: int = 0,
    pool_frames: int = POOL_FRAMES,
) -> Iterator[tuple[list[Tensor], Tensor | None]]:
    """Yield every segment of `blocks` once: float32 rows `[t, d]` of each site, and which of them are frames.

    Segments tile each span from its start; rows past the end of a span are zeros. A batch holds `batch_size` rows
    (whole segments, at least one); the last may be smaller. What fits in one pool is permuted as a whole; else blocks
    are read in random order and segments are permuted within pools of many blocks. The first `skip` batches are left
    out, and nothing is read for pools that lie in them.
    """
    rng = np.random.default_rng([seed, epoch])
    per_batch = max(batch_size // segment, 1)
    first, seen = skip * per_batch, 0  # counted in segments
    rest: _Rows | None = None
    for pool in _pools(blocks, pool_frames, rng):
        starts, lengths = _segments(pool, segment)
        order = rng.permutation(len(starts))
        begin, seen = max(first - seen, 0), seen + len(starts)
        if begin >= len(starts):
            continue
        rows = _Rows.of(read(pool), starts[order[begin:]], lengths[order[begin:]], segment)
        if rest is not None:
            need = per_batch - len(rest)
            batch = rest.joined(rows.part(0, need))
            if len(batch) < per_batch:
                rest = batch
                continue
            yield batch.tensors()
            rows = rows.part(need, len(rows))
        whole = len(rows) - len(rows) % per_batch
        for at in range(0, whole, per_batch):
            yield rows.part(at, at + per_batch).tensors()
        rest = rows.part(whole, len(rows)).held() if whole < len(rows) else None
    if rest is not None:
        yield rest.tensors()


def blocks_of(spans: Iterable[Span], segment: int = 1, block_frames: int = BLOCK_FRAMES) -> list[Block]:
    """Cut spans into blocks of about `block_frames`, at multiples of `segment` from the start of each span."""
    longest = max(block_frames // segment, 1) * segment
    blocks: list[Block] = []
    room = 0
    for start, stop in spans:
        for at in range(start, stop, longest):
            piece = (at, min(at + longest, stop))
            if room <= 0:
                blocks.append([])
                room = longest
            blocks[-1].append(piece)
            room -= piece[1] - piece[0]
    return blocks


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order with those that follow one another joined, to be read at one go."""
    result: list[Span] = []
    for start, stop in spans:
        if result and result[-1][1] == start:
            result[-1] = (result[-1][0], stop)
        elif stop > start:
            result.append((start, stop))
    return result


@dataclass(frozen=True, eq=False)
class _Rows:
    """Segments of a pool, not yet copied: the pool's frames of each site and the place of each segment in it."""

    pool: list[Tensor]
    starts: Tensor
    lengths: Tensor
    segment: int

    @classmethod
    def of(cls, pool: list[Tensor], starts: np.ndarray, lengths: np.ndarray, segment: int) -> _Rows:
        return cls(pool, torch.from_numpy(starts), torch.from_numpy(lengths), segment)

    def __len__(self) -> int:
        return len(self.starts)

    def part(self, start: int, stop: int) -> _Rows:
        return _Rows(self.pool, self.starts[start:stop], self.lengths[start:stop], self.segment)

    def held(self) -> _Rows:
        """The same rows in memory of their own, so that the pool can be dropped."""
        if self.segment == 1:
            return _Rows([x[self.starts] for x in self.pool], torch.arange(len(self)), self.lengths, 1)
        places = self.starts[:, None] + torch.arange(self.segment)
        last = (self.starts + self.lengths - 1)[:, None]
        pool = [x[torch.minimum(places, last).flatten()] for x in self.pool]
        return _Rows(pool, torch.arange(len(self)) * self.segment, self.lengths, self.segment)

    def joined(self, other: _Rows) -> _Rows:
        there, size = other.held(), len(self) * self.segment
        here = self.held()
        pool = [torch.cat(pair) for pair in zip(here.pool, there.pool, strict=True)]
        lengths = torch.cat([here.lengths, there.lengths])
        return _Rows(pool, torch.cat([here.starts, there.starts + size]), lengths, self.segment)

    def tensors(self) -> tuple[list[Tensor], Tensor | None]:
        held = self.held()
        if self.segment == 1:
            return [x.float() for x in held.pool], None
        inside = (torch.arange(self.segment) < self.lengths[:, None]).flatten()
        return [x.float().masked_fill_(~inside[:, None], 0) for x in held.pool], inside


def _pools(blocks: Sequence[Block], pool_frames: int, rng: np.random.Generator) -> Iterator[list[Block]]:
    """Yield the blocks in groups of at most about `pool_frames`: all of them in order, or in random order."""
    sizes = [sum(stop - start for start, stop in block) for block in blocks]
    if sum(sizes) <= pool_frames:
        yield list(blocks)
        return
    pool: list[Block] = []
    held = 0
    for index in rng.permutation(len(blocks)):
        pool.append(blocks[index])
        held += sizes[index]
        if held >= pool_frames:
            yield pool
            pool, held = [], 0
    if pool:
        yield pool


def _segments(pool: Sequence[Block], segment: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where each segment starts in the pool's rows, and how many frames it has."""
    starts, lengths, at = [], [], 0
    for start, stop in (span for block in pool for span in block):
        size = stop - start
        inner = np.arange(0, size, segment)
        starts.append(inner + at)
        lengths.append(np.minimum(size - inner, segment))
        at += size
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *starts]), np.concatenate([empty, *lengths])
