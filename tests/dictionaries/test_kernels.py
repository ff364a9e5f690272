"""Every compiled operation gives what its plain definition gives, on random, ragged and degenerate input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otoscope.dictionaries import kernels
from otoscope.dictionaries.kernels import compiled, reference

shapes = st.tuples(
    st.integers(1, 40), st.integers(1, 300), st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**31)
).map(lambda s: (s[0], s[1], min(s[2], s[1]), s[3], s[4]))


def same_top_k(pre: Tensor, k: int) -> None:
    values, indices = compiled.top_k(pre, k)
    expected, _ = reference.top_k(pre, k)
    assert torch.equal(values, expected)
    active = values > 0
    assert torch.equal(pre.gather(1, indices.long())[active], values[active])
    assert int(indices[~active].abs().sum()) == 0
    for row, kept in zip(indices, active, strict=True):
        assert len(row[kept].unique()) == int(kept.sum()), "a feature was chosen twice"


@given(shapes)
@settings(max_examples=60, deadline=None)
def test_top_k_on_random_shapes(shape: tuple[int, int, int, int, int]) -> None:
    t, n, k, _, seed = shape
    same_top_k(torch.randn(t, n, generator=torch.Generator().manual_seed(seed)), k)


@given(shapes, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_top_k_with_many_ties(shape: tuple[int, int, int, int, int], levels: int) -> None:
    t, n, k, _, seed = shape
    pre = torch.randint(-levels, levels + 1, (t, n), generator=torch.Generator().manual_seed(seed)).float()
    same_top_k(pre, k)
    values, indices = compiled.top_k(pre, k)
    for row, chosen, kept in zip(pre, indices, values, strict=True):
        order = sorted(range(n), key=lambda i: (-float(row[i]), i))
        assert chosen[kept > 0].tolist() == [i for i in order if row[i] > 0][:k], "the lower index wins among equals"


@pytest.mark.parametrize(
    "pre",
    [
        -torch.rand(5, 100),
        torch.zeros(3, 50),
        torch.ones(3, 5000),
        torch.linspace(1, 2, 3000)[None],
        torch.linspace(2, 1, 3000)[None],
        torch.full((2, 64), 1e30),
        torch.full((2, 64), 1e-30),
    ],
    ids=["negative", "zero", "equal", "rising", "falling", "huge", "small"],
)
@pytest.mark.parametrize("k", [1, 7, 40])
def test_top_k_on_degenerate_rows(pre: Tensor, k: int) -> None:
    same_top_k(pre, k)


def test_top_k_keeps_everything_positive_when_k_is_n() -> None:
    pre = torch.randn(6, 2000)
    values, indices = compiled.top_k(pre, 2000)
    dense = torch.zeros_like(pre).scatter_add_(1, indices.long(), values)
    assert torch.equal(dense, pre.relu())


@given(shapes)
@settings(max_examples=40, deadline=None)
def test_sparse_products_equal_their_definition_and_autograd(shape: tuple[int, int, int, int, int]) -> None:
    t, n, k, d, seed = shape
    generator = torch.Generator().manual_seed(seed)
    values, indices = reference.top_k(torch.randn(t, n, generator=generator), k)
    rows = torch.randn(n, d, generator=generator).requires_grad_()
    x, by_output = torch.randn(2, t, d, generator=generator)
    assert torch.allclose(kernels.gather_dot(x, indices, rows), reference.gather_dot(x, indices, rows), atol=1e-5)
    assert torch.allclose(
        kernels.scatter_outer(values, indices, x, n), reference.scatter_outer(values, indices, x, n), atol=1e-5
    )

    code = torch.zeros(t, n).scatter_add_(1, indices.long(), values).requires_grad_()
    dense = code @ rows
    assert torch.allclose(kernels.sparse_decode(values, indices, rows), dense, atol=1e-5)
    dense.backward(by_output)
    assert code.grad is not None
    active = values > 0
    by_value = kernels.gather_dot(by_output, indices, rows)
    assert torch.allclose(by_value[active], code.grad.gather(1, indices.long())[active], atol=1e-5)
    assert rows.grad is not None
    assert torch.allclose(kernels.scatter_outer(values, indices, by_output, n), rows.grad, atol=1e-5)
    assert torch.allclose(kernels.feature_sums(values, indices, n), code.detach().sum(dim=0), atol=1e-5)


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    x, rows = torch.randn(1500, 16, generator=generator), torch.randn(90, 16, generator=generator)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            values, indices = compiled.top_k(x @ rows.T, 5)
            results.append((values, indices, compiled.gather_dot(x, indices, rows)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


@pytest.mark.parametrize("shortlist", [False, True])
def test_encoding_in_blocks_equals_the_dense_definition(shortlist: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, rows = torch.randn(700, 48, generator=generator), torch.randn(400, 48, generator=generator)
    bias = torch.randn(400, generator=generator)
    values, indices = kernels.encode_top_k(x, rows, bias, 9, shortlist=shortlist)
    expected, _ = reference.top_k(x @ rows.T + bias, 9)
    assert torch.allclose(values, expected, atol=1e-4)
    exact = (x @ rows.T + bias).gather(1, indices.long())
    assert torch.allclose(exact[values > 0], values[values > 0], atol=1e-4)


def test_encoding_no_frames_is_empty() -> None:
    values, indices = kernels.encode_top_k(torch.zeros(0, 4), torch.randn(9, 4), torch.zeros(9), 3)
    assert values.shape == indices.shape == (0, 3)


def test_a_shortlist_of_silent_frames_stays_silent() -> None:
    values, indices = kernels.encode_top_k(
        torch.zeros(3, 4), torch.randn(90, 4), torch.full((90,), -1.0), 3, shortlist=True
    )
    assert values.count_nonzero() == 0
    assert indices.count_nonzero() == 0
