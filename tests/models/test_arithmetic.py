"""The fast product equals the plain one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from otoscope.models.networks import arithmetic
from otoscope.models.networks.arithmetic import BLOCK_ROWS, Linear, in_blocks, product
from otoscope.models.networks.attention import fast_attention

sizes = st.integers(1, 70)


@settings(max_examples=30, deadline=None)
@given(sizes, sizes, sizes, st.booleans(), st.integers(0, 2**31))
def test_product_equals_the_plain_linear_map(rows: int, inner: int, outer: int, bias: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, weight = (torch.randn(n, inner, generator=generator) for n in (rows, outer))
    offset = torch.randn(outer, generator=generator) if bias else None
    with torch.no_grad():
        assert torch.allclose(product(x, weight, offset), linear(x, weight, offset), atol=1e-4)
        assert torch.allclose(product(x, weight.T.contiguous().T, offset), linear(x, weight, offset), atol=1e-4)
        assert torch.equal(product(x, weight, out=torch.empty(rows, outer)), product(x, weight))


def test_product_of_nothing_is_empty() -> None:
    with torch.no_grad():
        assert product(torch.empty(0, 8), torch.ones(3, 8)).shape == (0, 3)


def test_gradients_flow_as_through_a_plain_layer() -> None:
    layer = Linear(5, 3)
    x = torch.randn(7, 5, requires_grad=True)
    layer(x).square().sum().backward()
    gradient = x.grad
    x.grad = None
    linear(x, layer.weight, layer.bias).square().sum().backward()
    assert gradient is not None
    assert x.grad is not None
    assert torch.equal(gradient, x.grad)


def test_formats_that_the_processor_multiplies_slowly_go_through_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 300, generator=generator).bfloat16() for n in (40, 50))
    monkeypatch.setattr(arithmetic, "multiplies", lambda dtype: dtype is torch.float32)
    with torch.no_grad():
        exact = linear(x.double(), weight.double())
        assert product(x, weight).dtype is torch.bfloat16
        assert torch.equal(product(x, weight), linear(x.float(), weight.float()).bfloat16())
    assert torch.allclose(product(x, weight).double(), exact, rtol=0.01, atol=0.1)


@pytest.mark.parametrize("rows", [(1,), (BLOCK_ROWS,), (BLOCK_ROWS + 1,), (3, 2 * BLOCK_ROWS // 3), (2, BLOCK_ROWS, 1)])
def test_layers_in_blocks_give_what_they_give_at_once(rows: tuple[int, ...]) -> None:
    up, down = Linear(7, 11), Linear(11, 5)

    def layers(x: torch.Tensor) -> torch.Tensor:
        return down(torch.nn.functional.gelu(up(x)))

    x = torch.randn(*rows, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(in_blocks(layers, x), layers(x), atol=1e-6)
        assert in_blocks(layers, x).shape == (*rows, 5)
    assert in_blocks(layers, x).requires_grad


@pytest.mark.parametrize("frames", [1, 249, 250, 251, 1500])
def test_attention_in_blocks_equals_the_fused_kernel(frames: int) -> None:
    query, key, value = torch.randn(3, 2, 3, frames, 16, generator=torch.Generator().manual_seed(frames)).unbind()
    with torch.no_grad():
        z = fast_attention(query, key, value)
    fused = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=1.0)
    assert torch.allclose(z, fused.transpose(1, 2), atol=1e-5)
