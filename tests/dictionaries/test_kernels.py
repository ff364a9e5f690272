"""Every compiled operation gives what its plain definition gives, on random, ragged and degenerate input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otoscope.dictionaries import TopK, kernels
from otoscope.dictionaries.kernels import compiled, reference
from otoscope.dictionaries.kernels.filtered import filtered_top_k, round_rows
from otoscope.dictionaries.training.learner import Batch, TrainingPlan
from otoscope.models.networks.arithmetic import multiplies

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
    dense = torch.zeros_like(pre).scatter_add_(1, indices.long(), values)
    assert torch.equal(compiled.keep_top(pre.clone(), k), dense)
    assert torch.equal(reference.keep_top(pre.clone(), k).sort(dim=1).values, dense.sort(dim=1).values)


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


def test_memory_that_is_written_over_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(500, 24, generator=generator)
    made = TopK(64, k=5, k_aux=7).learner(TrainingPlan(24, 10, 5000, 0, torch.device("cpu")))
    made.parameters["encoder_bias"][:30] = -9.0
    made.parameters["encoder_bias"][30:] = 2.0
    made.state["silent_frames"][:30] = 10**9
    made.parameters["encoder"][:30] += 9 * x[:30] / x[:30].square().sum(dim=1, keepdim=True)
    fresh = {name: gradient.clone() for name, gradient in made.gradients(Batch.of(x), 0)[0].items()}
    used = {name: torch.full_like(gradient, torch.nan) for name, gradient in fresh.items()}
    made.spare = dict(used)
    made.state["silent_frames"][:30] = 10**9
    again, metrics = made.gradients(Batch.of(x), 0)
    assert float(metrics["aux"]) > 0
    assert all(torch.equal(again[name], fresh[name]) for name in fresh)
    assert again["decoder"].data_ptr() == used["decoder"].data_ptr()


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    x, rows = torch.randn(1500, 16, generator=generator), torch.randn(90, 16, generator=generator)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            values, indices = compiled.top_k(x @ rows.T, 5)
            sums = compiled.scatter_outer(values, indices, x, 90)
            results.append((values, indices, compiled.gather_dot(x, indices, rows), sums))
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


def activations(kind: str, t: int, d: int, generator: torch.Generator) -> Tensor:
    """Frames of even units; with two units that dwarf the others; of very unequal lengths; or with many zeros."""
    x = torch.randn(t, d, generator=generator)
    if kind == "outliers":
        x[:, 3] *= 40
        x[:, 7] *= 15
    if kind == "unequal":
        x *= torch.randn(t, 1, generator=generator).exp() ** 3
    if kind == "silent":
        x[::3] = 0
    return x


@pytest.mark.skipif(not multiplies(torch.int8), reason="this processor has no fast 8-bit products")
@pytest.mark.parametrize("kind", ["even", "outliers", "unequal", "silent"])
@pytest.mark.parametrize("d", [20, 200])
def test_rough_scores_in_8_bits_change_nothing(kind: str, d: int) -> None:
    generator = torch.Generator().manual_seed(d)
    x, rows = activations(kind, 300, d, generator), torch.randn(900, d, generator=generator)
    rows *= torch.rand(900, 1, generator=generator) + 0.2
    bias = torch.randn(900, generator=generator) - 1
    exact = x @ rows.T + bias
    expected, _ = reference.top_k(exact, 11)
    values, indices, left = filtered_top_k(x, rows, bias, 11)
    decided = ~left
    assert float(decided.float().mean()) > 0.9
    size = expected.abs().amax(dim=1, keepdim=True) + 1
    assert float(((values - expected) / size)[decided].abs().max()) < 1e-5
    active = (values > 0) & decided[:, None]
    chosen = exact.gather(1, indices.long().where(decided[:, None], 0))
    assert float(((chosen - values) / size)[active].abs().max()) < 1e-5
    assert int(indices[decided & (expected[:, -1] <= 0)].min(dim=1).values.abs().sum()) == 0, "padding points at 0"


@pytest.mark.skipif(not multiplies(torch.int8), reason="this processor has no fast 8-bit products")
def test_rough_scores_alone_would_choose_other_features() -> None:
    generator = torch.Generator().manual_seed(1)
    x, rows = activations("outliers", 300, 60, generator), torch.randn(900, 60, generator=generator)
    even = torch.ones(60)
    frames, features = round_rows(x, even), round_rows(rows, even)
    rough = (frames.codes.float() * frames.step[:, None]) @ (features.codes.float() * features.step[:, None]).T
    exact = x @ rows.T
    lost = torch.linalg.vector_norm(x - frames.codes * frames.step[:, None], dim=1)
    assert torch.allclose(frames.lost, lost, rtol=1e-3)
    furthest = frames.lost[:, None] * rows.norm(dim=1) + frames.norm[:, None] * features.lost
    assert bool(((rough - exact).abs() <= furthest * 1.001).all())
    chosen, truth = rough.topk(11).indices.sort(dim=1).values, exact.topk(11).indices.sort(dim=1).values
    assert float((chosen != truth).any(dim=1).float().mean()) > 0.1
    _, indices, left = filtered_top_k(x, rows, torch.zeros(900), 11)
    assert torch.equal(indices.long().sort(dim=1).values[~left], truth[~left])
    assert float(left.float().mean()) < 0.02, "units that dwarf the others are shared between frames and rows"


@pytest.mark.skipif(not multiplies(torch.int8), reason="this processor has no fast 8-bit products")
@pytest.mark.parametrize("n", [900, 1023, 5000])
def test_rough_scores_rule_out_nothing_that_counts_where_rows_differ_in_length(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    lengths = torch.exp2(3 * torch.randn(n, 1, generator=generator))
    rows, x = lengths * torch.randn(n, 60, generator=generator), activations("plain", 400, 60, generator)
    bias = -7 * lengths[:, 0] * torch.rand(n, generator=generator)
    values, indices, left = filtered_top_k(x, rows, bias, 6)
    expected, places = reference.top_k(x @ rows.T + bias, 6)
    assert float(left.float().mean()) < 0.5
    active = (expected > 0) & ~left[:, None]
    assert torch.equal(indices.long()[active], places.long()[active])
    assert torch.allclose(values[~left], expected[~left], rtol=1e-4, atol=1e-2)


@pytest.mark.skipif(not multiplies(torch.int8), reason="this processor has no fast 8-bit products")
def test_frames_that_rough_scores_cannot_decide_are_computed_in_full() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(400, 2048, generator=generator)
    rows = torch.randn(1, 2048, generator=generator) + 1e-4 * torch.randn(1024, 2048, generator=generator)
    bias = torch.zeros(1024)
    assert bool(filtered_top_k(x, rows, bias, 4)[2].any())
    values, indices = kernels.encode_top_k(x, rows, bias, 4)
    exact = x @ rows.T
    assert torch.allclose(values, reference.top_k(exact, 4)[0], atol=1e-3)
    assert torch.allclose(exact.gather(1, indices.long()).where(values > 0, 0), values, atol=1e-3)


def test_encoding_no_frames_is_empty() -> None:
    values, indices = kernels.encode_top_k(torch.zeros(0, 4), torch.randn(9, 4), torch.zeros(9), 3)
    assert values.shape == indices.shape == (0, 3)


def test_a_shortlist_of_silent_frames_stays_silent() -> None:
    values, indices = kernels.encode_top_k(
        torch.zeros(3, 4), torch.randn(90, 4), torch.full((90,), -1.0), 3, shortlist=True
    )
    assert values.count_nonzero() == 0
    assert indices.count_nonzero() == 0
