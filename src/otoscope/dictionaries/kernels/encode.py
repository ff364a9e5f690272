"""Dense encoder, sparse result: pre-activations live for one block of frames only, so that they stay in the cache.

Where the processor multiplies 8-bit integers fast, most features are ruled out by rough scores first (`filtered.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from otoscope.dictionaries.kernels.dispatch import can_compile, gather_dot, top_k
from otoscope.models.networks.arithmetic import multiplies, product

FRAMES = {"cpu": 256}
FRAMES_ELSEWHERE = 8192
SPARE = 8
FILTER_FRAMES, FILTER_WEIGHTS, FILTER_SPARSITY = 256, 2**20, 32
"""Least frames, weights of the encoder (`n · d`) and features for each active one for which rough scores pay."""


@torch.no_grad()
def encode_top_k(x: Tensor, rows: Tensor, bias: Tensor, k: int, *, shortlist: bool = False) -> tuple[Tensor, Tensor]:
    """Return the `k` largest positive entries of `x @ rowsᵀ + bias`: values and int32 indices `[t, k]`.

    Args:
        x: frames `[t, d]`.
        rows: `[n, d]`.
        bias: `[n]`.
        k: entries to keep per frame.
        shortlist: find slightly more than `k` candidates in bfloat16 and compute only those in full precision, unless
            8-bit integers are at hand, which are faster and miss nothing. Twice as fast where the hardware multiplies
            bfloat16; values are exact, and a feature is missed only where bfloat16 puts it more than 8 places below
            the k-th.
    """
    if not len(x):
        return x.new_zeros(0, k), x.new_zeros(0, k, dtype=torch.int32)
    if _filter_pays(x, rows, k):
        from otoscope.dictionaries.kernels.filtered import filtered_top_k

        values, indices, left = filtered_top_k(x, rows, bias, k)
        if bool(left.any()):
            values[left], indices[left] = _unfiltered(x[left], rows, bias, k, shortlist=shortlist)
        return values, indices
    return _unfiltered(x, rows, bias, k, shortlist=shortlist)


def _filter_pays(x: Tensor, rows: Tensor, k: int) -> bool:
    big = len(x) >= FILTER_FRAMES and rows.numel() >= FILTER_WEIGHTS and len(rows) >= FILTER_SPARSITY * k
    return big and can_compile(x, rows) and multiplies(torch.int8)


def _unfiltered(x: Tensor, rows: Tensor, bias: Tensor, k: int, *, shortlist: bool) -> tuple[Tensor, Tensor]:
    blocks = torch.split(x, FRAMES.get(x.device.type, FRAMES_ELSEWHERE))
    if shortlist and k + SPARE < len(rows):
        columns16, bias16 = rows.bfloat16().T, bias.bfloat16()
        rough16 = torch.empty(len(blocks[0]), len(rows), dtype=torch.bfloat16, device=x.device)
        rough = torch.empty_like(rough16, dtype=torch.float32)
        parts = []
        for block in blocks:
            torch.addmm(bias16, block.bfloat16(), columns16, out=rough16[: len(block)])
            parts.append(_rescored(block, rows, bias, k, rough[: len(block)].copy_(rough16[: len(block)])))
    else:
        parts = [top_k(product(block, rows, bias), k) for block in blocks]
    return torch.cat([values for values, _ in parts]), torch.cat([indices for _, indices in parts])


def _rescored(x: Tensor, rows: Tensor, bias: Tensor, k: int, rough: Tensor) -> tuple[Tensor, Tensor]:
    """Return the exact top `k` among the features that are strongest in `rough` `[t, n]`."""
    guesses, candidates = top_k(rough, k + SPARE)
    exact = gather_dot(x, candidates, rows) + bias[candidates.long()]
    values, places = top_k(torch.where(guesses > 0, exact, 0), k)
    return values, torch.where(values > 0, candidates.gather(1, places.long()), 0)
