"""Frames in random order, reproducible from a seed and an epoch, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

IN_MEMORY_BYTES = 1 << 30
"""A selection up to this size is held in memory and shuffled as a whole."""
BLOCK_BYTES = 1 << 20
BUFFER_BYTES = 1 << 28

ReadRows = Callable[[int, int], torch.Tensor]
"""`read(start, stop)` returns frames `[stop - start, d]` in the stored 16-bit type."""


def shuffled_batches(
    read: ReadRows,
    spans: Sequence[tuple[int, int]],
    d: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    in_memory_bytes: int = IN_MEMORY_BYTES,
    buffer_bytes: int = BUFFER_BYTES,
) -> Iterator[torch.Tensor]:
    """Yield every frame of `spans` once, as float32 batches `[b, d]` (the last may be smaller).

    A selection that fits in memory is permuted frame by frame. A larger one is read in blocks of about a megabyte in
    random order, and frames are permuted within a buffer of many blocks.
    """
    rng = np.random.default_rng([seed, epoch])
    row_bytes = 2 * d
    n_frames = sum(stop - start for start, stop in spans)
    if n_frames * row_bytes <= in_memory_bytes:
        pools: Iterator[torch.Tensor] = iter([_gather(read, spans)])
    else:
        blocks = _blocks(spans, max(1, BLOCK_BYTES // row_bytes))
        order = rng.permutation(len(blocks))
        per_pool = max(1, buffer_bytes // BLOCK_BYTES)
        chosen = [[blocks[i] for i in order[at : at + per_pool]] for at in range(0, len(blocks), per_pool)]
        pools = (_gather(read, pool) for pool in chosen)
    return _batches(pools, batch_size, rng)


def _batches(pools: Iterator[torch.Tensor], batch_size: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    left = None
    for pool in pools:
        order = torch.from_numpy(rng.permutation(len(pool)))
        if left is not None:
            need = batch_size - len(left)
            batch = torch.cat([left, pool[order[:need]]])
            order = order[need:]
            if len(batch) < batch_size:
                left = batch
                continue
            yield batch.float()
        whole = len(order) - len(order) % batch_size
        for at in range(0, whole, batch_size):
            yield pool[order[at : at + batch_size]].float()
        left = pool[order[whole:]] if whole < len(order) else None
    if left is not None and len(left):
        yield left.float()


def _blocks(spans: Sequence[tuple[int, int]], block_frames: int) -> list[tuple[int, int]]:
    return [(at, min(at + block_frames, stop)) for start, stop in spans for at in range(start, stop, block_frames)]


def _gather(read: ReadRows, spans: Sequence[tuple[int, int]]) -> torch.Tensor:
    return torch.cat([read(start, stop) for start, stop in spans])
