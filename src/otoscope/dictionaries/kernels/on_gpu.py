"""The sparse operations as Triton kernels for NVIDIA GPUs; `reference.py` defines them.

Every sum is taken by one program in a fixed order, without atomic additions, so that results repeat to the last bit.
Weights may be float32 or bfloat16; sums are float32.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from otoscope.dictionaries.kernels import gpu_programs as programs
from otoscope.dictionaries.kernels import reference

BLOCK = 64
"""Pre-activations whose maximum decides whether any of them can be among the `k` largest."""
MOST_BLOCKS = 2048
MOST_K = 64
"""Above these, torch's own selection runs."""
_ENTRIES = 8
_WIDEST = 2048


def top_k(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the `k` largest positive entries per row, values falling; the lower index wins among equals.

    If `k` blocks of a row have a maximum of at least `m`, the `k` largest entries are at least `m`: so they lie in
    the `k` blocks with the largest maxima, and the rest of the row is read only once.
    """
    t, n = pre.shape
    blocks = -(-n // BLOCK)
    if k > MOST_K or blocks > MOST_BLOCKS or pre.dtype not in (torch.float32, torch.bfloat16):
        return reference.top_k(pre, k)
    pre = pre.contiguous()
    kept = triton.next_power_of_2(k)
    maxima = torch.empty(t, blocks, dtype=torch.float32, device=pre.device)
    per_program = min(triton.next_power_of_2(blocks), 64)
    programs.block_maxima[(t, triton.cdiv(blocks, per_program))](pre, maxima, n, blocks, per_program, BLOCK)
    values = torch.empty(t, k, dtype=torch.float32, device=pre.device)
    indices = torch.empty(t, k, dtype=torch.int32, device=pre.device)
    width = max(triton.next_power_of_2(blocks), kept)
    chosen = torch.empty(t, kept, dtype=torch.int32, device=pre.device)
    programs.best_blocks[(t,)](maxima, chosen, blocks, width, kept)
    programs.best_entries[(t,)](pre, chosen, values, indices, n, k, kept, BLOCK)
    return values, indices


def sparse_decode(values: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """Return `Σ_k values[t, k] · rows[indices[t, k]]` as `[t, d]`."""
    (t, k), d = values.shape, rows.shape[1]
    result = torch.empty(t, d, dtype=torch.float32, device=rows.device)
    tile = min(triton.next_power_of_2(d), 1024)
    if t:
        programs.decode_rows[(t, triton.cdiv(d, tile))](*_plain(values, indices, rows), result, k, d, tile)
    return result.to(rows.dtype)


def gather_dot(x: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """Return `x[t] · rows[indices[t, k]]`."""
    (t, k), d = indices.shape, rows.shape[1]
    if d > _WIDEST:
        return reference.gather_dot(x, indices, rows)
    result = torch.empty(t, k, dtype=torch.float32, device=rows.device)
    if t:
        programs.dot_rows[(t,)](*_plain(x, indices, rows), result, k, d, triton.next_power_of_2(d))
    return result.to(rows.dtype)


def scatter_outer(values: Tensor, indices: Tensor, x: Tensor, n: int) -> Tensor:
    """Return `[n, d]` with `Σ values[t, k] · x[t]` over the entries of each feature."""
    (_, k), d = values.shape, x.shape[1]
    starts, order = _by_feature(values, indices, n)
    result = torch.empty(n, d, dtype=torch.float32, device=x.device)
    tile = min(triton.next_power_of_2(d), 256)
    values, x = _plain(values, x)
    programs.sum_outer[(n, triton.cdiv(d, tile))](values, starts, order, x, result, k, d, tile, _ENTRIES)
    return result.to(x.dtype)


def feature_sums(values: Tensor, indices: Tensor, n: int) -> Tensor:
    """Return `[n]`, the sum of each feature's values over all frames."""
    starts, order = _by_feature(values, indices, n)
    result = torch.empty(n, dtype=torch.float32, device=values.device)
    programs.sum_values[(n,)](*_plain(values), starts, order, result, 128)
    return result.to(values.dtype)


def _by_feature(values: Tensor, indices: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Sort the entries by feature, frames rising within one: where each feature starts, and the places of entries.

    Padding is sorted behind the last feature, where no program looks.
    """
    feature = torch.where(values.flatten() != 0, indices.flatten(), n)
    ordered, order = torch.sort(feature, stable=True)
    edges = torch.arange(n + 1, dtype=ordered.dtype, device=ordered.device)
    return torch.searchsorted(ordered, edges), order


def _plain(*tensors: Tensor) -> list[Any]:
    return [tensor.contiguous() for tensor in tensors]
