"""Matrix products on a CPU: the fastest library and number format for the processor at hand, block by block.

On AMD processors oneDNN multiplies float32 about twice as fast as torch's default library (MKL), on Intel's MKL is
ahead. 16-bit numbers are multiplied as such only where the processor gains by it; elsewhere their products are
computed in float32 and rounded. On other devices, and when gradients are wanted, the plain torch operation runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK_ROWS = 500
"""Rows of a long input that pass through a chain of layers together: few enough to stay in the cache."""
_FEW_ROWS = 16  # with fewer rows the time goes into reading the weights, and oneDNN only adds a reordering
_ONEDNN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def _processor() -> dict[str, Any]:
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return found


@cache
def _is_intel() -> bool:
    return "intel" in str(_processor().get("cpu_name", "")).lower()


@cache
def multiplies(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies matrices of `dtype` at least as fast as float32.

    Intel's AVX-512 instruction for bfloat16 has half the throughput of float32; only its matrix units (AMX) gain.
    8-bit integers take instructions for sums of four products (VNNI).
    """
    if dtype is torch.int8:
        return bool(_processor().get("avx512_vnni") or _processor().get("avx_vnni"))
    if dtype is torch.bfloat16:
        return bool(_processor().get("amx_bf16") or (_processor().get("avx512_bf16") and not _is_intel()))
    return dtype in (torch.float32, torch.float64) or (dtype is torch.float16 and bool(_processor().get("amx_fp16")))


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """Return `x [..., i] @ weight [o, i].T + bias [o]`, like `torch.nn.functional.linear`.

    The result of a product of matrices without bias is put in `out` where that saves time; use what is returned.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or x.numel() < _FEW_ROWS * x.shape[-1]:
        return F.linear(x, weight, bias)
    if not multiplies(x.dtype):
        return product(x.float(), weight.float(), None if bias is None else bias.float()).to(x.dtype)
    if not _ONEDNN or x.dtype is torch.float64 or (_is_intel() and x.dtype is torch.float32):
        return F.linear(x, weight, bias) if out is None else torch.mm(x, weight.T, out=out)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def in_blocks(layers: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return `layers(x)` for layers that treat every row of `x [..., i]` alike, a block of rows at a time on a CPU.

    What lies between the layers then stays in the cache, and no large memory is asked of the system for it.
    """
    rows = x.flatten(0, -2)
    if x.device.type != "cpu" or torch.is_grad_enabled() or len(rows) <= BLOCK_ROWS:
        return layers(x)
    first = layers(rows[:BLOCK_ROWS])
    result = first.new_empty(len(rows), first.shape[-1])
    result[:BLOCK_ROWS] = first
    for start in range(BLOCK_ROWS, len(rows), BLOCK_ROWS):
        result[start : start + BLOCK_ROWS] = layers(rows[start : start + BLOCK_ROWS])
    return result.view(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """A linear layer computed by `product`."""

    def forward(self, input: Tensor) -> Tensor:
        return product(input, self.weight, self.bias)
