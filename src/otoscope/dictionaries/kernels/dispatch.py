"""Sends each operation to its compiled form where that can run, otherwise to the plain one."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from otoscope.dictionaries.kernels import reference


@cache
def _compiled() -> ModuleType | None:
    try:
        from otoscope.dictionaries.kernels import compiled
    except ImportError:  # no numba for this Python or machine
        return None
    return compiled


def can_compile(*tensors: Tensor) -> bool:
    """Whether compiled operations take these tensors: float32 on the CPU, and numba at hand."""
    fit = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    return fit and _compiled() is not None


def _backend(*tensors: Tensor) -> ModuleType:
    plain = any(tensor.device.type != "cpu" or tensor.dtype != torch.float32 for tensor in tensors)
    return reference if plain else _compiled() or reference


def top_k(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the `k` largest positive entries of each row of `pre` `[t, n]`: values and int32 indices `[t, k]`."""
    values, indices = _backend(pre).top_k(pre, k)
    return values, indices


def sparse_decode(values: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """Return `Σ_k values[t, k] · rows[indices[t, k]]` as `[t, d]`."""
    return reference.sparse_decode(values, indices, rows)


def gather_dot(x: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """Return `x[t] · rows[indices[t, k]]` as `[t, k]`."""
    result: Tensor = _backend(x, rows).gather_dot(x, indices, rows)
    return result


def scatter_outer(values: Tensor, indices: Tensor, x: Tensor, n: int, *, out: Tensor | None = None) -> Tensor:
    """Return `[n, d]` with `Σ values[t, k] · x[t]` over the entries of each feature.

    The memory of `out`, of the same shape, is written over where that saves asking the system for it.
    """
    backend = _backend(values, x)
    more = (out,) if backend is _compiled() and out is not None and can_compile(out) and out.is_contiguous() else ()
    result: Tensor = backend.scatter_outer(values, indices, x, n, *more)
    return result


def feature_sums(values: Tensor, indices: Tensor, n: int) -> Tensor:
    """Return `[n]`, the sum of each feature's values over all frames."""
    return reference.feature_sums(values, indices, n)
