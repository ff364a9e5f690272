"""Sparse operations of dictionaries: one definition each in plain torch, and a compiled twin for the CPU.

`reference.py` defines them and runs on GPUs and wherever numba is missing; `compiled.py` takes float32 on the CPU.
"""

from __future__ import annotations

from otoscope.dictionaries.kernels.dispatch import feature_sums, gather_dot, scatter_outer, sparse_decode, top_k
from otoscope.dictionaries.kernels.encode import encode_top_k

__all__ = [
    "encode_top_k",
    "feature_sums",
    "gather_dot",
    "scatter_outer",
    "sparse_decode",
    "top_k",
]
