"""The sparse operations in plain torch: the definition of each kernel, and what runs where there is no other.

Shapes: `t` frames, `d` model width, `n` features, `k` entries per frame; `rows` is `[n, d]`, one direction a feature.
"""

from __future__ import annotations

import torch
from torch import Tensor


def top_k(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the `k` largest positive entries of each row of `pre` `[t, n]`: values and int32 indices `[t, k]`.

    Values come in falling order. A row with fewer than `k` positive entries is padded with value 0 and index 0. Which
    of several equal entries wins the last place is not defined.
    """
    values, indices = torch.topk(pre, k, dim=1)
    values = values.relu()
    return values, torch.where(values > 0, indices, 0).to(torch.int32)


def keep_top(pre: Tensor, k: int) -> Tensor:
    """Return `pre` `[t, n]` with all but the `k` largest positive entries of each row set to 0; it may be changed."""
    values, indices = torch.topk(pre, min(k, pre.shape[1]), dim=1)
    return torch.zeros_like(pre).scatter_(1, indices, values.relu())


def sparse_decode(values: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """Return `Σ_k values[t, k] · rows[indices[t, k]]` as `[t, d]`."""
    return torch.nn.functional.embedding_bag(indices.long(), rows, per_sample_weights=values.to(rows.dtype), mode="sum")


def gather_dot(x: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """Return `x[t] · rows[indices[t, k]]` as `[t, k]`: the gradient of `sparse_decode` to its values."""
    return torch.stack([(x * rows[column]).sum(dim=1) for column in indices.long().T], dim=1)


def scatter_outer(values: Tensor, indices: Tensor, x: Tensor, n: int) -> Tensor:
    """Return `[n, d]` with `Σ values[t, k] · x[t]` over the entries of each feature: the gradient to `rows`."""
    result = x.new_zeros(n, x.shape[1])
    for column, value in zip(indices.long().T, values.T, strict=True):
        result.index_add_(0, column, x * value[:, None])
    return result


def feature_sums(values: Tensor, indices: Tensor, n: int) -> Tensor:
    """Return `[n]`, the sum of each feature's values over all frames."""
    return values.new_zeros(n).index_add_(0, indices.flatten().long(), values.flatten())
