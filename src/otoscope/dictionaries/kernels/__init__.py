"""Sparse operations of dictionaries: one definition in plain torch each, and a compiled twin for the CPU."""

from __future__ import annotations

from otoscope.dictionaries.kernels.reference import (
    feature_sums,
    gather_dot,
    scatter_outer,
    sparse_decode,
    top_k,
)

__all__ = ["encode_top_k", "feature_sums", "gather_dot", "scatter_outer", "sparse_decode", "top_k"]

import torch
from torch import Tensor


def encode_top_k(x: Tensor, rows: Tensor, bias: Tensor, k: int, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Return the top `k` positive entries of `x @ rowsᵀ + bias`, a chunk of frames at a time.

    Args:
        x: `[t, d]`.
        rows: `[n, d]`.
        bias: `[n]`.
        k: entries to keep per frame.
        chunk: frames whose `[chunk, n]` pre-activations are alive at once.
    """
    parts = [top_k(torch.addmm(bias, part, rows.T), k) for part in x.split(chunk)]
    if not parts:
        return x.new_zeros(0, k), x.new_zeros(0, k, dtype=torch.int32)
    return torch.cat([values for values, _ in parts]), torch.cat([indices for _, indices in parts])
