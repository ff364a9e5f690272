"""The sparse operations that gain from being compiled for the CPU (numba), float32; `reference.py` defines them.

Every function works on a range of rows without the interpreter lock, so that threads share the work by ranges and the
result does not depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from torch import Tensor

BLOCK = 8
RANKED = 1024
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
TINY = np.float32(np.finfo(np.float32).tiny)
ROWS_PER_THREAD = 256

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def jit(function: Kernel) -> Kernel:
    """Compile at the first call and keep the machine code on disk; sums may be reordered, NaN is not expected.

    Divisions are not checked for a divisor of 0, which would keep loops out of the vector registers.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"nnan", "nsz", "reassoc", "contract"}}
    try:
        compiled: Kernel = numba.njit(**options, cache=True)(function)
    except RuntimeError:  # no folder to keep machine code in: compile in every process
        compiled = numba.njit(**options)(function)
    return compiled


def top_k(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the `k` largest positive entries per row, values falling; the lower index wins among equals."""
    values = torch.empty(len(pre), k)
    indices = torch.empty(len(pre), k, dtype=torch.int32)
    share(_top_k, len(pre), pre.contiguous().numpy(), k, values.numpy(), indices.numpy())
    return values, indices


def keep_top(pre: Tensor, k: int) -> Tensor:
    """Return `pre`, changed in place: all but the `k` largest positive entries of each row are 0."""
    pre = pre.contiguous()
    share(_keep_top, len(pre), pre.numpy(), k)
    return pre


def gather_dot(x: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """Return `x[t] · rows[indices[t, k]]`."""
    result = torch.empty(indices.shape)
    share(_gather_dot, len(x), *_arrays(x, indices, rows), result.numpy())
    return result


def scatter_outer(values: Tensor, indices: Tensor, x: Tensor, n: int, out: Tensor | None = None) -> Tensor:
    """Return `[n, d]` with `Σ values[t, k] · x[t]` over the entries of each feature; written to `out` if given."""
    result = torch.empty(n, x.shape[1]) if out is None else out
    v, i, frames = _arrays(values, indices, x)
    share(_row_sums, n, *_by_feature(v, i, n), frames, result.numpy())
    return result


def _arrays(*tensors: Tensor) -> list[np.ndarray[Any, Any]]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="otoscope-kernel")


def share(kernel: Callable[..., None], count: int, *arguments: Any, least: int = ROWS_PER_THREAD) -> None:
    """Run `kernel(start, stop, *arguments)` over `range(count)`, split among torch's number of threads."""
    threads = min(torch.get_num_threads(), -(-count // least))
    if threads <= 1:
        kernel(0, count, *arguments)
        return
    edges = [count * part // threads for part in range(threads + 1)]
    jobs = [_pool(threads).submit(kernel, a, b, *arguments) for a, b in pairwise(edges)]
    for job in jobs:
        job.result()


@jit
def block_maxima(row: Any, maxima: Any) -> None:
    """Write the largest entry of each block; block `b` is every `len(maxima)`-th entry from `b` on."""
    m, n = maxima.shape[0], row.shape[0]
    maxima[:] = row[:m]
    for start in range(m, n, m):
        part = row[start : min(start + m, n)]
        for b in range(part.shape[0]):
            maxima[b] = max(maxima[b], part[b])


@jit
def _number(bits: Any) -> Any:
    return np.int32(bits).view(np.float32)


@jit
def largest_magnitude(row: Any) -> Any:
    """Return the largest absolute value: as integers, which order alike, numbers are compared many at a time."""
    bits, largest = row.view(np.int32), np.int32(0)
    for i in range(row.shape[0]):
        largest = max(largest, bits[i] & np.int32(0x7FFFFFFF))
    return _number(largest)


@jit
def limit_of(maxima: Any, k: int) -> Any:
    """Return a high number that `k` of `maxima` reach, found by bisection; `TINY` if fewer are positive."""
    bits, highest = maxima.view(np.int32), np.int32(0)
    for b in range(maxima.shape[0]):  # positive numbers order like the integers of their bits
        highest = max(highest, bits[b])
    low, high = TINY, _number(highest)
    for _ in range(14):
        middle = HALF * (low + high)
        count = ZERO  # counted in float32: vector registers hold twice as many as of numba's int64
        for b in range(maxima.shape[0]):
            count += ONE if maxima[b] >= middle else ZERO
        if count >= k:
            low = middle
            if count == k:
                break
        else:
            high = middle
    return low


@jit
def reaching(maxima: Any, limit: Any, blocks: Any) -> int:
    """Write the blocks whose maximum reaches `limit` to `blocks`, which has one place to spare; return their number."""
    count = 0
    for b in range(maxima.shape[0]):  # written always, counted where it belongs: no branch to guess wrong
        blocks[count] = b
        count += maxima[b] >= limit
    return count


@jit
def _insert_sorted(found: Any, where: Any, count: int, k: int, values: Any, indices: Any) -> None:
    filled = 0
    for a in range(count):
        value, index = found[a], where[a]
        j = filled
        while j > 0 and (values[j - 1] < value or (values[j - 1] == value and indices[j - 1] > index)):
            if j < k:
                values[j], indices[j] = values[j - 1], indices[j - 1]
            j -= 1
        if j < k:
            values[j], indices[j] = value, index
            filled = min(filled + 1, k)


@jit
def count_larger(found: Any, count: int, larger: Any) -> None:
    """Write to `larger` how many of `found[:count]` are larger than each; both have 64 places to spare."""
    padded = (count + 63) // 64 * 64
    found[count:padded] = -np.inf
    larger[:padded] = ZERO
    for a in range(0, count, 4):  # the padding is larger than nothing
        v, w, x, y = found[a], found[a + 1], found[a + 2], found[a + 3]
        for b in range(padded):
            one, two = ONE if v > found[b] else ZERO, ONE if w > found[b] else ZERO
            three, four = ONE if x > found[b] else ZERO, ONE if y > found[b] else ZERO
            larger[b] += (one + two) + (three + four)


@jit
def write_sorted(found: Any, where: Any, count: int, k: int, larger: Any, values: Any, indices: Any) -> None:
    """Write the `k` largest of the positive `found[:count]`, falling, the lower index first among equals.

    Ranks are counted, which needs no branches. `found` and `larger`, which is room, have 64 places to spare; `values`
    is 0 beforehand.
    """
    if count > RANKED:
        _insert_sorted(found, where, count, k, values, indices)
        return
    count_larger(found, count, larger)
    for a in range(count):
        value, index, rank = found[a], where[a], int(larger[a])
        while rank < k and values[rank] == value:  # an equal is there already
            if indices[rank] > index:
                indices[rank], index = index, indices[rank]
            rank += 1
        if rank < k:
            values[rank], indices[rank] = value, index


@jit
def _top_k(start: int, stop: int, pre: Any, k: int, values: Any, indices: Any) -> None:
    # If k blocks have a maximum of at least `limit`, so have k entries: only entries that reach it can be among the
    # k largest, and only those blocks hold any.
    n = pre.shape[1]
    blocks = (n + BLOCK - 1) // BLOCK
    maxima = np.empty(blocks, np.float32)
    some = np.empty(blocks + 1, np.int32)
    found, larger = np.empty(n + 64, np.float32), np.empty(n + 64, np.float32)
    where = np.empty(n + 64, np.int32)
    for t in range(start, stop):
        row = pre[t]
        block_maxima(row, maxima)
        limit = limit_of(maxima, k)
        count = 0
        for b in some[: reaching(maxima, limit, some)]:
            for i in range(b, n, blocks):
                found[count], where[count] = row[i], i
                count += row[i] >= limit
        values[t] = ZERO
        indices[t] = 0
        write_sorted(found, where, count, k, larger, values[t], indices[t])


@jit
def _keep_top(start: int, stop: int, pre: Any, k: int) -> None:
    # Positive numbers order like the integers of their bits, so 31 halvings find the k-th largest exactly.
    for t in range(start, stop):
        row, bits = pre[t], pre[t].view(np.int32)
        low, high = np.int32(1), np.int32(1)
        for i in range(bits.shape[0]):
            high = max(high, bits[i])
        while low < high:
            middle = low + (high - low + np.int32(1)) // np.int32(2)
            count = ZERO
            for i in range(bits.shape[0]):
                count += ONE if bits[i] >= middle else ZERO
            if count >= k:
                low = middle
            else:
                high = middle - np.int32(1)
        kept = ZERO
        for i in range(bits.shape[0]):
            inside = bits[i] >= low
            kept += ONE if inside else ZERO
            row[i] = row[i] if inside else ZERO
        at = bits.shape[0] - 1
        while kept > k:  # equals of the k-th: the lower index wins
            if bits[at] == low:
                row[at] = ZERO
                kept -= ONE
            at -= 1


@jit
def _gather_dot(start: int, stop: int, x: Any, indices: Any, rows: Any, result: Any) -> None:
    d = rows.shape[1]
    for t in range(start, stop):
        frame = x[t]
        for j in range(indices.shape[1]):
            row = rows[indices[t, j]]
            total = ZERO
            for c in range(d):
                total += frame[c] * row[c]
            result[t, j] = total


@jit
def _by_feature(values: Any, indices: Any, n: int) -> tuple[Any, Any, Any]:
    """Sort the non-zero entries by feature, then frame: where each feature starts, and frames and values of entries."""
    starts = np.zeros(n + 1, np.int64)
    t, k = values.shape
    for i in range(t):
        for j in range(k):
            if values[i, j] != 0:
                starts[indices[i, j] + 1] += 1
    for f in range(n):
        starts[f + 1] += starts[f]
    frames = np.empty(starts[n], np.int64)
    weights = np.empty(starts[n], np.float32)
    place = starts[:-1].copy()
    for i in range(t):
        for j in range(k):
            if values[i, j] != 0:
                entry = place[indices[i, j]]
                frames[entry] = i
                weights[entry] = values[i, j]
                place[indices[i, j]] += 1
    return starts, frames, weights


@jit
def _row_sums(start: int, stop: int, starts: Any, frames: Any, weights: Any, x: Any, result: Any) -> None:
    """Add up the weighted frames of each feature, four at a time: rows far apart in memory arrive together."""
    d = x.shape[1]
    for f in range(start, stop):
        total, entry, last = result[f], starts[f], starts[f + 1]
        total[:] = ZERO
        while entry + 4 <= last:
            v, w, y, z = weights[entry], weights[entry + 1], weights[entry + 2], weights[entry + 3]
            first, second = x[frames[entry]], x[frames[entry + 1]]
            third, fourth = x[frames[entry + 2]], x[frames[entry + 3]]
            for c in range(d):
                total[c] += v * first[c] + w * second[c] + y * third[c] + z * fourth[c]
            entry += 4
        while entry < last:
            v, first = weights[entry], x[frames[entry]]
            for c in range(d):
                total[c] += v * first[c]
            entry += 1
