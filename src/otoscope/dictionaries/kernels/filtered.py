"""Top-k of an encoder by 8-bit integers: rough scores rule out nearly all features, the others are computed in full.

Processors with VNNI multiply 8-bit integers four times as fast as float32. Frames and encoder rows are rounded to 8
bits, each with its own step; how far a rough score can be from the true one is known (`SPREAD`). The scores of the
roughly best `k` features, computed in float32, give a floor for the k-th best; whatever may still reach that floor is
computed too. So the result is that of the float32 product; what varies is the time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from otoscope.dictionaries.kernels.compiled import (
    BLOCK,
    TINY,
    ZERO,
    block_maxima,
    count_larger,
    jit,
    largest_magnitude,
    limit_of,
    share,
    write_sorted,
)

SPREAD = 8.0
"""How many standard deviations of a rough score's error are allowed for. With up to 64 units that covers every case
(Cauchy and Schwarz); beyond, rounding errors of many units would have to conspire: chance is below 1e-13 a score."""
PROBE = 128
"""Frames by which it is decided whether rough scores rule out enough."""
_ENTRIES = 2**19  # rough scores of a block of frames, 4 bytes each, that lie in the second cache together
_SAMPLE = 256  # frames and features from which the sizes of units are estimated
_BLOCKS = 12  # of features, for each entry kept: few blocks hold two of the strongest
NONE, EIGHT = np.uint64(0), np.uint64(8)
_FEW_ROWS = 32  # a thread's least share of frames


class Rounded(NamedTuple):
    """The rows of a matrix in 8 bits: `row = step · codes`, up to an error of length `lost`."""

    codes: Tensor
    step: Tensor
    norm: Tensor
    lost: Tensor


def filtered_top_k(x: Tensor, rows: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `k` largest positive entries of `x @ rowsᵀ + bias`, and the frames for which that is left to do.

    Args:
        x: frames `[t, d]`.
        rows: `[n, d]`.
        bias: `[n]`.
        k: entries to keep per frame.

    Returns:
        Values `[t, k]`, falling, int32 indices `[t, k]`, and bool `[t]`: True for frames where too many features come
        near the k-th best for the filter to pay. Their entries are undefined.
    """
    x, rows, bias = x.contiguous(), rows.contiguous(), bias.contiguous()
    t, n = len(x), len(rows)
    values, indices = torch.empty(t, k), torch.empty(t, k, dtype=torch.int32)
    left = torch.ones(t, dtype=torch.bool)
    balance = _balance(x, rows)
    rounded, frames = round_rows(rows, balance), round_rows(x, 1 / balance)
    tolerance = min(SPREAD / x.shape[1] ** 0.5, 1.0)
    beyond = frames.lost * tolerance + 1e-5 * (frames.norm + frames.lost)
    of_row = (rows, bias, rounded.step, rounded.norm + rounded.lost, rounded.lost * tolerance)
    size = max(_ENTRIES // n // 64 * 64, 128) * torch.get_num_threads()
    rough = torch.empty(max(min(size, t), min(PROBE, t)), n, dtype=torch.int32)
    # as arrays: the many slices of a loop over blocks take a tenth of the time of a tensor's
    scores, per_row = rough.numpy(), [part.numpy() for part in of_row]
    per_frame = [part.numpy() for part in (x, frames.step, beyond, frames.norm)]
    results = [part.numpy() for part in (values, indices, left)]
    start, stop = 0, min(PROBE, t)
    while start < t:
        torch._int_mm(frames.codes[start:stop], rounded.codes.T, out=rough[: stop - start])
        of_block = [scores[: stop - start], *(part[start:stop] for part in per_frame)]
        found = [part[start:stop] for part in results]
        share(_filter, stop - start, *of_block, *per_row, k, *found, least=_FEW_ROWS)
        if start == 0 and 4 * int(left[:stop].sum()) > stop:
            break
        start, stop = stop, min(stop + size, t)
    return values, indices, left


def _balance(x: Tensor, rows: Tensor) -> Tensor:
    """Return what units of `rows` are multiplied and of `x` divided by, `[d]`: units that dwarf the others are shared.

    Powers of 2, so that no product changes by it.
    """
    some = [matrix[:: -(-len(matrix) // _SAMPLE)] for matrix in (x, rows)]
    of_x, of_rows = (matrix.square().mean(dim=0).clamp_min(1e-30).log2() / 2 for matrix in some)
    return torch.exp2(((of_x - of_rows) / 2).round())


def round_rows(matrix: Tensor, factors: Tensor) -> Rounded:
    """Return the rows of `matrix · factors` `[r, d]` rounded to 8 bits, each with a step of its own."""
    codes = torch.empty(matrix.shape, dtype=torch.int8)
    step, norm, lost = torch.empty(3, len(matrix))
    outputs = (codes.numpy(), step.numpy(), norm.numpy(), lost.numpy())
    share(_round, len(matrix), matrix.detach().numpy(), factors.numpy(), *outputs)
    return Rounded(codes, step, norm, lost)


@jit
def _round(start: int, stop: int, matrix: Any, factors: Any, codes: Any, steps: Any, norms: Any, losts: Any) -> None:
    d = matrix.shape[1]
    row = np.empty(d, np.float32)
    for r in range(start, stop):
        source, code = matrix[r], codes[r]
        for c in range(d):
            row[c] = source[c] * factors[c]
        largest = max(largest_magnitude(row), TINY)
        step, per_step = largest / np.float32(127), np.float32(127) / largest
        norm, lost = ZERO, ZERO
        for c in range(d):
            whole = np.int32(row[c] * per_step + np.float32(128.5)) - np.int32(128)  # to the nearest: never negative
            code[c] = np.int8(whole)
            kept = np.float32(whole) * step
            norm += kept * kept
            lost += (row[c] - kept) * (row[c] - kept)
        steps[r], norms[r], losts[r] = step, np.sqrt(norm), np.sqrt(lost)


@jit
def _scores(frame: Any, rows: Any, bias: Any, where: Any, start: int, stop: int, found: Any) -> None:
    """Compute the scores of features `where[start:stop]`, four at a time: rows far apart in memory arrive together."""
    d = rows.shape[1]
    for a in range(start, stop, 4):
        last = stop - 1  # repeats the last feature where four do not come out even
        i, j, k, m = where[a], where[min(a + 1, last)], where[min(a + 2, last)], where[min(a + 3, last)]
        first, second, third, fourth = rows[i], rows[j], rows[k], rows[m]
        w, x, y, z = ZERO, ZERO, ZERO, ZERO
        for c in range(d):
            w += frame[c] * first[c]
            x += frame[c] * second[c]
            y += frame[c] * third[c]
            z += frame[c] * fourth[c]
        found[a] = w + bias[i]
        found[min(a + 1, last)] = x + bias[j]
        found[min(a + 2, last)] = y + bias[k]
        found[min(a + 3, last)] = z + bias[m]


@jit
def _kth_largest(found: Any, count: int, k: int, larger: Any) -> Any:
    """Return the `k`-th largest of `found[:count]`; `larger` is room."""
    count_larger(found, count, larger)
    kth = np.float32(np.inf)
    for a in range(count):
        kth = min(kth, found[a] if larger[a] < k else np.float32(np.inf))
    return kth


@jit
def _keep_positive(found: Any, where: Any, count: int) -> int:
    kept = 0
    for a in range(count):
        if found[a] >= TINY:
            found[kept], where[kept] = found[a], where[a]
            kept += 1
    return kept


@jit
def _near(rough: Any, least: Any, marks: Any, eights: Any, near: Any) -> Any:
    """Write the places where `rough` is at least `least` to `near`, rising; return how many. `eights`: room."""
    for i in range(rough.shape[0]):
        marks[i] = rough[i] >= least
    words = marks.view(np.uint64)
    hits, count = NONE, NONE  # without a sign: places need no check for negative ones, which count from the end
    for e in range(words.shape[0]):  # written always, counted where it belongs: no branch to guess wrong
        eights[hits] = e
        hits += np.uint64(words[e] != 0)
    for e in range(hits):
        first = EIGHT * np.uint64(eights[e])
        for i in range(8):
            place = first + np.uint64(i)
            near[count] = place
            count += np.uint64(marks[place])
    return np.int64(count)


@jit
def _filter(
    start: int,
    stop: int,
    scores: Any,
    x: Any,
    steps: Any,
    beyond: Any,
    norms: Any,
    rows: Any,
    bias: Any,
    row_steps: Any,
    row_norms: Any,
    row_losts: Any,
    k: int,
    values: Any,
    indices: Any,
    left: Any,
) -> None:
    n, room = len(rows), 4 * k + 64
    blocks = min((n + BLOCK - 1) // BLOCK, _BLOCKS * k)
    rough = np.empty(n, np.float32)
    maxima = np.empty(blocks, np.float32)
    marks = np.zeros((n + 7) // 8 * 8, np.uint8)
    found, larger = np.empty(n + 64, np.float32), np.empty(n + 64, np.float32)
    where, near, rest = np.empty(n + 64, np.int32), np.empty(n + 64, np.int32), np.empty(n + 64, np.int32)
    eights = np.empty(len(marks) // 8 + 1, np.uint32)
    widest, coarsest = row_norms.max(), row_losts.max()
    for t in range(start, stop):
        row, step = scores[t], steps[t]
        for i in range(n):
            rough[i] = np.float32(row[i]) * (row_steps[i] * step) + bias[i]
        block_maxima(rough, maxima)
        limit = limit_of(maxima, k)
        # the k scores that reach the limit are at most `furthest` lower in truth, and others that much higher
        furthest = beyond[t] * widest + norms[t] * coarsest
        count, further = 0, 0
        for i in near[: _near(rough, limit - (furthest + furthest), marks, eights, near)]:
            where[count] = rest[further] = i
            reaches = rough[i] >= limit
            count += reaches
            further += not reaches
        left[t] = count > room
        if left[t]:
            continue
        _scores(x[t], rows, bias, where, 0, count, found)
        floor = max(_kth_largest(found, count, k, larger), TINY) if count >= k else TINY
        guessed = count
        for i in rest[:further]:
            where[count] = i
            count += rough[i] + beyond[t] * row_norms[i] + norms[t] * row_losts[i] >= floor
        left[t] = count > room
        if left[t]:
            continue
        _scores(x[t], rows, bias, where, guessed, count, found)
        count = _keep_positive(found, where, count)
        values[t] = ZERO
        indices[t] = 0
        write_sorted(found, where, count, k, larger, values[t], indices[t])
