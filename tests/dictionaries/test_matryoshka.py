"""Every prefix of a Matryoshka dictionary rebuilds the frame, and the gradients are those of that loss."""

from __future__ import annotations

import json

import pytest
import torch
from dense_reference import auxiliary, frames, keep_per_batch, largest_error, pre_activations, shaken, unexplained
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import unscaled
from torch import Tensor

from otoscope.dictionaries import BatchTopK, Matryoshka, ThresholdDictionary
from otoscope.dictionaries.architectures.matryoshka import packed
from otoscope.dictionaries.training.learner import Batch
from otoscope.dictionaries.training.sparse_step import SparseLearner
from otoscope.errors import InputError

N, D, K, T = 50, 12, 4, 90


@pytest.mark.parametrize("dead", [[], [1, 9, 30], list(range(5, 45))], ids=["none dead", "few dead", "most dead"])
@pytest.mark.parametrize("groups", [None, (0.2, 0.8), (1.0,)], ids=["published groups", "two groups", "one group"])
def test_gradients_equal_autograd_of_the_sum_over_prefixes(groups: tuple[float, ...] | None, dead: list[int]) -> None:
    x = frames(T, D)
    spec = Matryoshka(N, k=K) if groups is None else Matryoshka(N, k=K, groups=groups)

    def loss(p: dict[str, Tensor]) -> Tensor:
        code = keep_per_batch(pre_activations(p, x), K)
        prefixes = torch.stack([unexplained(p, x, code, edge) for edge in spec.edges[1:]])
        return prefixes.sum() + auxiliary(p, x, code, spec, dead)

    errors = largest_error(shaken(spec, D, dead=dead), Batch.of(x), loss)
    assert max(errors.values()) < 2e-5, errors


def test_one_group_is_batch_topk() -> None:
    x = frames(T, D)
    one, _ = shaken(Matryoshka(N, k=K, groups=(1.0,)), D).gradients(Batch.of(x), 0)
    plain, _ = shaken(BatchTopK(N, k=K), D).gradients(Batch.of(x), 0)
    two, _ = shaken(Matryoshka(N, k=K, groups=(0.5, 0.5)), D).gradients(Batch.of(x), 0)
    for name, gradient in plain.items():
        assert torch.allclose(one[name], gradient, rtol=1e-4, atol=1e-6), name
        assert not torch.allclose(two[name], gradient, rtol=1e-2, atol=1e-4), name


def test_published_groups_double_in_size() -> None:
    assert Matryoshka(65536).edges == (0, 2048, 6144, 14336, 30720, 65536)


@settings(max_examples=40, deadline=None)
@given(t=st.integers(1, 9), k=st.integers(1, 9), share=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_packing_keeps_the_wanted_entries_in_order_and_nothing_else(t: int, k: int, share: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(t, k, generator=generator) + 0.1
    indices = torch.randint(100, (t, k), generator=generator, dtype=torch.int32)
    wanted = torch.rand(t, k, generator=generator) < share
    some, where = packed(values, indices, wanted)
    assert some.shape[1] == max(int(wanted.sum(dim=1).max()), 1)
    for row in range(t):
        count = int(wanted[row].sum())
        assert torch.equal(some[row, :count], values[row, wanted[row]])
        assert torch.equal(where[row, :count], indices[row, wanted[row]])
        assert some[row, count:].count_nonzero() == 0
        assert where[row, count:].count_nonzero() == 0


def test_a_matryoshka_dictionary_is_saved_as_a_thresholded_one() -> None:
    made = shaken(Matryoshka(N, k=K), D)
    assert isinstance(made, SparseLearner)
    made.gradients(Batch.of(frames(T, D)), 0)
    dictionary = made.dictionary(unscaled(D), sites=("s",), name="m")
    assert isinstance(dictionary, ThresholdDictionary)
    assert float(dictionary.encode(frames(T, D)).l0.float().mean()) == pytest.approx(K, abs=0.05)


def test_settings_come_back_from_a_file_as_they_were() -> None:
    spec = Matryoshka(64, k=4, groups=[0.25, 0.75])  # type: ignore[arg-type]
    assert json.loads(json.dumps(spec.settings())) == spec.settings()
    assert hash(spec) == hash(Matryoshka(64, k=4, groups=(0.25, 0.75)))


@pytest.mark.parametrize(
    ("n", "groups", "message"),
    [
        (64, (0.5, 0.4), r"add up to 1, got \[0\.5, 0\.4\]"),
        (64, (), "add up to 1"),
        (8, (0.01, 0.99), "n_features = 8 some of the groups"),
        (64, (-0.5, 1.5), "hold no feature"),
    ],
)
def test_impossible_groups_are_refused(n: int, groups: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Matryoshka(n, k=2, groups=groups)
