"""The Triton programs behind `on_gpu.py`: one program a frame or a feature, sums in a fixed order.

Their arguments carry no types because Triton compiles the annotations too; mypy leaves this file alone.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def ordered_key(value, index):
    """One number that orders by value, then by falling index; 0 for what is not positive."""
    bits = value.to(tl.int32, bitcast=True).to(tl.int64)
    return tl.where(value > 0, (bits << 32) | (0x7FFFFFFF - index).to(tl.int64), 0)


@triton.jit
def block_maxima(pre, maxima, n, blocks, per_program: tl.constexpr, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    b = tl.program_id(1) * per_program + tl.arange(0, per_program)
    column = b[:, None] * block + tl.arange(0, block)[None, :]
    entries = tl.load(pre + row * n + column, mask=column < n, other=0.0).to(tl.float32)
    tl.store(maxima + row * blocks + b, tl.max(entries, axis=1), mask=b < blocks)


@triton.jit
def best_blocks(maxima, chosen, blocks, width: tl.constexpr, kept: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    b = tl.arange(0, width)
    keys = ordered_key(tl.load(maxima + row * blocks + b, mask=b < blocks, other=0.0), b)
    best = tl.topk(keys, kept)
    block = tl.where(best > 0, 0x7FFFFFFF - (best & 0x7FFFFFFF), -1)
    tl.store(chosen + row * kept + tl.arange(0, kept), block.to(tl.int32))


@triton.jit
def best_entries(
    pre,
    chosen,
    values,
    indices,
    n,
    k,
    kept: tl.constexpr,
    block: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    b = tl.load(chosen + row * kept + tl.arange(0, kept))
    column = b[:, None] * block + tl.arange(0, block)[None, :]
    inside = (b[:, None] >= 0) & (column < n)
    entries = tl.load(pre + row * n + column, mask=inside, other=0.0).to(tl.float32)
    best = tl.topk(tl.reshape(ordered_key(entries, column), (kept * block,)), kept)
    place = tl.arange(0, kept)
    value = (best >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    index = tl.where(best > 0, 0x7FFFFFFF - (best & 0x7FFFFFFF), 0)
    tl.store(values + row * k + place, value, mask=place < k)
    tl.store(indices + row * k + place, index.to(tl.int32), mask=place < k)


@triton.jit
def decode_rows(values, indices, rows, result, k, d, tile: tl.constexpr):
    t = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * tile + tl.arange(0, tile)
    total = tl.zeros((tile,), tl.float32)
    for j in range(k):
        value = tl.load(values + t * k + j).to(tl.float32)
        if value != 0:
            row = tl.load(indices + t * k + j).to(tl.int64)
            total += value * tl.load(rows + row * d + column, mask=column < d, other=0.0).to(tl.float32)
    tl.store(result + t * d + column, total, mask=column < d)


@triton.jit
def dot_rows(x, indices, rows, result, k, d, tile: tl.constexpr):
    t = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, tile)
    frame = tl.load(x + t * d + column, mask=column < d, other=0.0).to(tl.float32)
    for j in range(k):
        row = tl.load(indices + t * k + j).to(tl.int64)
        direction = tl.load(rows + row * d + column, mask=column < d, other=0.0).to(tl.float32)
        tl.store(result + t * k + j, tl.sum(frame * direction))


@triton.jit
def sum_outer(
    values,
    starts,
    order,
    x,
    result,
    k,
    d,
    tile: tl.constexpr,
    entries: tl.constexpr,
):
    feature = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * tile + tl.arange(0, tile)
    first, last = tl.load(starts + feature), tl.load(starts + feature + 1)
    total = tl.zeros((tile,), tl.float32)
    for at in range(first, last, entries):
        entry = at + tl.arange(0, entries)
        place = tl.load(order + entry, mask=entry < last, other=0)
        value = tl.load(values + place, mask=entry < last, other=0.0).to(tl.float32)
        where = (place // k)[:, None] * d + column[None, :]
        frames = tl.load(x + where, mask=(entry < last)[:, None] & (column < d)[None, :], other=0.0).to(tl.float32)
        total += tl.sum(value[:, None] * frames, axis=0)
    tl.store(result + feature * d + column, total, mask=column < d)


@triton.jit
def sum_values(values, starts, order, result, entries: tl.constexpr):
    feature = tl.program_id(0).to(tl.int64)
    first, last = tl.load(starts + feature), tl.load(starts + feature + 1)
    total = tl.zeros((entries,), tl.float32)
    for at in range(first, last, entries):
        entry = at + tl.arange(0, entries)
        place = tl.load(order + entry, mask=entry < last, other=0)
        total += tl.load(values + place, mask=entry < last, other=0.0).to(tl.float32)
    tl.store(result + feature, tl.sum(total))
