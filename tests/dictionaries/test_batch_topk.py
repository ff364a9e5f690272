"""BatchTopK shares its active entries over a batch exactly, and turns into a dictionary with one threshold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dense_reference import auxiliary, frames, keep_per_batch, largest_error, pre_activations, shaken, unexplained
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import learn, planted, unscaled
from torch import Tensor

from otoscope.dictionaries import BatchTopK, ReluDictionary, ThresholdDictionary, load_dictionary
from otoscope.dictionaries.architectures.batch_topk import BatchTopKLearner, batch_top_k
from otoscope.dictionaries.training.learner import Batch, Scaling, TrainingPlan
from otoscope.errors import InputError

N, D, K, T = 50, 12, 4, 90


@pytest.mark.parametrize("dead", [[], [1, 9, 30], list(range(5, 45))], ids=["none dead", "few dead", "most dead"])
def test_gradients_equal_autograd_of_the_dense_loss(dead: list[int]) -> None:
    x, spec = frames(T, D), BatchTopK(N, k=K)

    def loss(p: dict[str, Tensor]) -> Tensor:
        code = keep_per_batch(pre_activations(p, x), K)
        return unexplained(p, x, code) + auxiliary(p, x, code, spec, dead)

    errors = largest_error(shaken(spec, D, dead=dead), Batch.of(x), loss)
    assert max(errors.values()) < 2e-5, errors


@settings(max_examples=40, deadline=None)
@given(
    t=st.integers(1, 12),
    n=st.integers(1, 40),
    share=st.floats(0, 1),
    loud=st.integers(0, 12),
    seed=st.integers(0, 10**6),
    rounded=st.booleans(),
)
def test_the_batch_keeps_its_largest_positive_entries(
    t: int, n: int, share: float, loud: int, seed: int, rounded: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(t, 3, generator=generator)
    x[:loud] *= 20  # a few frames want far more entries than the others
    rows, bias = torch.randn(n, 3, generator=generator), torch.randn(n, generator=generator) - 0.5
    if rounded:  # many equal entries
        x, rows, bias = x.round(), rows.round(), bias.round()
    k = max(round(share * n), 1)
    values, indices = batch_top_k(x, rows, bias, k)

    pre = (x @ rows.T + bias).relu()
    expected = pre.flatten().sort(descending=True).values[: k * t]
    found = values[values > 0].sort(descending=True).values
    assert torch.allclose(found, expected[expected > 0], atol=1e-4)
    code = torch.zeros(t, n).scatter_add_(1, indices.long(), values)
    assert torch.allclose(code, torch.where(code > 0, pre, 0), atol=1e-4), "values belong to their features"
    assert (values.diff(dim=1) <= 0).all()
    assert not indices[values == 0].any()


def test_one_loud_frame_may_take_all_entries_of_a_batch() -> None:
    x = torch.full((8, 1), 0.01)
    x[3] = 100.0
    values, indices = batch_top_k(x, torch.arange(1.0, 65)[:, None], torch.zeros(64), k=8)
    assert (values > 0).sum(dim=1).tolist() == [0, 0, 0, 64, 0, 0, 0, 0]
    assert indices[3].tolist() == list(range(63, -1, -1))


def test_the_threshold_follows_the_smallest_active_entry_however_slowly() -> None:
    made = BatchTopK(N, k=K, threshold_decay=1 - 1e-5).learner(TrainingPlan(D, 100, 1, 0, torch.device("cpu")))
    x, state = frames(T, D), made.state["threshold"]
    smallest = [float(values[values > 0].min()) for values, _ in (made.select(x * s, 0) for s in (1.0, 1.001))]
    expected = (1 - 1e-5) * smallest[0] + 1e-5 * smallest[1]
    assert float(state) == pytest.approx(expected, rel=1e-12)
    assert float(state) > smallest[0]
    control = torch.tensor(smallest[0], dtype=torch.bfloat16)
    for _ in range(100):
        control = (1 - 1e-5) * control + 1e-5 * torch.tensor(2 * smallest[0], dtype=torch.bfloat16)
    assert float(control) == float(torch.tensor(smallest[0], dtype=torch.bfloat16)), "in bfloat16 it never moves"


@pytest.fixture(scope="module")
def trained() -> tuple[BatchTopKLearner, Tensor]:
    data = planted(4000, 24, 32, 3)
    made = learn(BatchTopK(48, k=3), data.x, steps=150, lr=1e-2, batch_size=256)
    assert isinstance(made, BatchTopKLearner)
    return made, data.x


def test_a_trained_dictionary_is_as_sparse_alone_as_its_batches_were(trained: tuple[BatchTopKLearner, Tensor]) -> None:
    made, x = trained
    dictionary = made.dictionary(unscaled(24), sites=("encoder.0.resid_post",), name="b")
    assert float(dictionary.encode(x).l0.float().mean()) == pytest.approx(3, rel=0.1)
    alone = torch.cat([dictionary.encode(frame[None]).dense() for frame in x[:20]])
    assert torch.allclose(alone, dictionary.encode(x[:20]).dense(), atol=1e-5)
    denser = dictionary.with_threshold(dictionary.threshold / 4)
    assert float(denser.encode(x).l0.float().mean()) > 3.5


def test_the_threshold_is_folded_with_the_scaling(trained: tuple[BatchTopKLearner, Tensor]) -> None:
    made, x = trained
    plain = made.dictionary(unscaled(24), sites=("s",), name="b")
    shift = torch.linspace(-3, 3, 24, dtype=torch.float64)
    raw = x / 5 + shift.float()
    scaled = made.dictionary(Scaling.of(shift, 5.0), sites=("s",), name="b")
    assert torch.allclose(5 * scaled.encode(raw).dense(), plain.encode(x).dense(), atol=1e-3)


def test_a_thresholded_dictionary_comes_back_from_its_folder(
    trained: tuple[BatchTopKLearner, Tensor], tmp_path: Path
) -> None:
    made, x = trained
    dictionary = made.dictionary(unscaled(24), sites=("encoder.0.resid_post",), name="b")
    dictionary.save(tmp_path / "b")
    opened = load_dictionary(tmp_path / "b")
    assert isinstance(opened, ThresholdDictionary)
    assert opened.threshold.dtype == torch.float32
    assert opened.fingerprint == dictionary.fingerprint
    assert torch.equal(opened.encode(x).values, dictionary.encode(x).values)


def weights(n: int = 600, d: int = 8) -> dict[str, Tensor | str]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"encoder": (n, d), "encoder_bias": (n,), "decoder": (n, d), "decoder_bias": (d,)}
    return {"site": "s", **{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}}


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 2.0, 1e9, "each"])
def test_an_entry_is_active_where_it_is_positive_and_above_its_threshold(threshold: float | str) -> None:
    limit = torch.linspace(-2, 4, 600) if isinstance(threshold, str) else torch.full((600,), threshold)
    dictionary = ThresholdDictionary(threshold=limit if isinstance(threshold, str) else threshold, **weights())
    x = 3 * torch.randn(300, 8, generator=torch.Generator().manual_seed(1))
    pre = (x - dictionary.decoder_bias) @ dictionary.encoder.T + dictionary.encoder_bias
    expected = torch.where(pre > limit, pre, 0).relu()
    code = dictionary.encode(x)
    assert torch.allclose(code.dense(), expected, atol=1e-4)
    assert (code.values.diff(dim=1) <= 0).all()
    assert code.k == max(int((expected > 0).sum(dim=1).max()), 1)
    assert torch.allclose(dictionary.decode(code), expected @ dictionary.decoder + dictionary.decoder_bias, atol=2e-2)


def test_relu_is_the_threshold_zero_and_stays_so_on_disk(tmp_path: Path) -> None:
    relu, same = ReluDictionary(**weights()), ThresholdDictionary(threshold=0.0, **weights())
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(relu.encode(x).values, same.encode(x).values)
    relu.save(tmp_path / "relu")
    opened = load_dictionary(tmp_path / "relu")
    assert opened.kind == "standard"
    assert "threshold" not in opened.tensors()
    assert torch.equal(opened.encode(x).values, relu.encode(x).values)


def test_no_frames_have_no_code() -> None:
    dictionary = ThresholdDictionary(threshold=1.0, **weights())
    assert dictionary.reconstruct(torch.zeros(0, 8)).shape == (0, 8)


@pytest.mark.parametrize(
    ("threshold", "message"),
    [(torch.zeros(7), r"one for each of the 600 features, got shape \[7\]"), (float("nan"), "not all finite")],
)
def test_impossible_thresholds_are_refused(threshold: Tensor | float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ThresholdDictionary(threshold=threshold, **weights())


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"threshold_decay must be at least 0 and below 1, got 1\.0"):
        BatchTopK(8, k=2, threshold_decay=1.0)
