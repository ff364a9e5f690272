"""Sparse operations of dictionaries: one definition each in plain torch, and compiled twins for CPU and GPU.

`reference.py` defines them and runs wherever nothing better does; `compiled.py` takes float32 on the CPU (numba),
`on_gpu.py` float32 and bfloat16 on NVIDIA GPUs (Triton).
"""

from __future__ import annotations

from otoscope.dictionaries.kernels.dispatch import (
    feature_sums,
    gather_dot,
    keep_top,
    scatter_outer,
    sparse_decode,
    top_k,
)
from otoscope.dictionaries.kernels.encode import encode_top_k

__all__ = [
    "encode_top_k",
    "feature_sums",
    "gather_dot",
    "keep_top",
    "scatter_outer",
    "sparse_decode",
    "top_k",
]
