"""Sends each operation to its compiled form where there is one for the tensors at hand, otherwise to the plain one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from otoscope.dictionaries.kernels import reference

ON_GPU = (torch.float32, torch.bfloat16)
"""What the Triton programs read; they are used where the tensors lie on an NVIDIA GPU."""


@cache
def _compiled() -> ModuleType | None:
    try:
        from otoscope.dictionaries.kernels import compiled
    except ImportError:  # no numba for this Python or machine
        return None
    return compiled


@cache
def _on_gpu() -> ModuleType | None:
    try:
        from otoscope.dictionaries.kernels import on_gpu
    except ImportError:  # no Triton for this platform
        return None
    return on_gpu


def can_compile(*tensors: Tensor) -> bool:
    """Whether compiled operations take these tensors: float32 on the CPU, and numba at hand."""
    fit = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    return fit and _compiled() is not None


def _form(operation: str, *tensors: Tensor) -> Callable[..., Any]:
    """Return the form of an operation that suits the tensors."""
    module = None
    if can_compile(*tensors):
        module = _compiled()
    elif all(tensor.device.type == "cuda" and tensor.dtype in ON_GPU for tensor in tensors):
        module = _on_gpu()
    return getattr(module, operation, None) or getattr(reference, operation)  # type: ignore[no-any-return]


def top_k(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the `k` largest positive entries of each row of `pre` `[t, n]`: values and int32 indices `[t, k]`."""
    values, indices = _form("top_k", pre)(pre, k)
    return values, indices


def keep_top(pre: Tensor, k: int) -> Tensor:
    """Return `pre` `[t, n]` with all but the `k` largest positive entries of each row set to 0; it may be changed."""
    result: Tensor = _form("keep_top", pre)(pre, k)
    return result


def sparse_decode(values: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """Return `Σ_k values[t, k] · rows[indices[t, k]]` as `[t, d]`."""
    result: Tensor = _form("sparse_decode", values, rows)(values, indices, rows)
    return result


def gather_dot(x: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """Return `x[t] · rows[indices[t, k]]` as `[t, k]`."""
    result: Tensor = _form("gather_dot", x, rows)(x, indices, rows)
    return result


def scatter_outer(values: Tensor, indices: Tensor, x: Tensor, n: int, *, out: Tensor | None = None) -> Tensor:
    """Return `[n, d]` with `Σ values[t, k] · x[t]` over the entries of each feature.

    The memory of `out`, of the same shape, is written over where that saves asking the system for it.
    """
    reused = out is not None and out.is_contiguous() and can_compile(values, x, out)
    more = {"out": out} if reused else {}
    result: Tensor = _form("scatter_outer", values, x)(values, indices, x, n, **more)
    return result


def feature_sums(values: Tensor, indices: Tensor, n: int) -> Tensor:
    """Return `[n]`, the sum of each feature's values over all frames."""
    result: Tensor = _form("feature_sums", values)(values, indices, n)
    return result
