"""Run by `test_gpu_kernels.py` in processes of their own: Triton reads its switches when kernels are defined."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from otoscope.dictionaries.kernels import gpu_programs, on_gpu, reference

SHAPES = {"cpu": [(2, 45, 3, 9), (1, 5, 5, 1)], "cuda": [(700, 3072, 32, 384), (90, 40_960, 50, 1280), (3, 5, 5, 1)]}
"""Frames, features, active entries, width; Triton's interpreter takes seconds where a GPU takes microseconds."""


def compare(device: str) -> None:
    """Hold every operation to its definition, on random, tied and silent pre-activations."""
    generator = torch.Generator().manual_seed(0)
    if device == "cpu":
        on_gpu.BLOCK = 4
    for t, n, k, d in SHAPES[device]:
        rows, x = torch.randn(n, d, generator=generator), torch.randn(t, d, generator=generator)
        ties = torch.randint(-2, 3, (t, n), generator=generator).float()
        for pre in (torch.randn(t, n, generator=generator), ties, -torch.rand(t, n, generator=generator)):
            check(*(tensor.to(device) for tensor in (pre, rows, x)), k)
    pre = torch.randn(2, 30, generator=generator).to(device)
    values, indices = on_gpu.top_k(pre.bfloat16(), 3)
    assert torch.equal(values, reference.top_k(pre.bfloat16().float(), 3)[0])
    assert indices.shape == (2, 3)


def check(pre: Tensor, rows: Tensor, x: Tensor, k: int) -> None:
    n = len(rows)
    values, indices = on_gpu.top_k(pre, k)
    assert torch.equal(values, reference.top_k(pre, k)[0])
    active = values > 0
    assert torch.equal(pre.gather(1, indices.long())[active], values[active])
    assert int(indices[~active].abs().sum()) == 0
    for row, chosen, kept in zip(pre.tolist(), indices, active, strict=True):
        order = sorted((i for i in range(n) if row[i] > 0), key=lambda i: (-row[i], i))
        assert chosen[kept].tolist() == order[:k], "the lower index wins among equals"
    operations = {
        "sparse_decode": (values, indices, rows),
        "gather_dot": (x, indices, rows),
        "scatter_outer": (values, indices, x, n),
        "feature_sums": (values, indices, n),
    }
    for name, arguments in operations.items():
        ours, expected = getattr(on_gpu, name)(*arguments), getattr(reference, name)(*arguments)
        assert torch.allclose(ours, expected, atol=1e-4), name
        assert torch.equal(ours, getattr(on_gpu, name)(*arguments)), f"{name} does not repeat"


NUMBERS = {"k": "i32", "d": "i32", "n": "i32", "blocks": "i32"}
INTEGERS = {"indices": "*i32", "chosen": "*i32", "starts": "*i64", "order": "*i64"}
SIZES = {"per_program": 4, "block": 8, "width": 8, "kept": 2, "tile": 128, "entries": 8}


def compile_for(capability: int) -> None:
    """Compile every program to machine code; this needs no GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = ["block_maxima", "best_blocks", "best_entries", "decode_rows", "dot_rows", "sum_outer", "sum_values"]
    for name in names:
        program = getattr(gpu_programs, name)
        types = {a: "constexpr" if a in SIZES else NUMBERS.get(a, INTEGERS.get(a, "*fp32")) for a in program.arg_names}
        sizes = {(program.arg_names.index(a),): SIZES[a] for a in program.arg_names if a in SIZES}
        source = ASTSource(fn=program, signature=types, constexprs=sizes)
        assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"], name


if __name__ == "__main__":
    if sys.argv[1] == "compile":
        compile_for(int(sys.argv[2]))
    else:
        compare(sys.argv[2])
