"""L1 dictionaries compute the published losses, tied and untied, and fold into dictionaries of raw activations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from planted import learn, planted
from shaken import LAST_STEP, D, N, assert_gradients_equal_autograd, frames, shaken
from torch import Tensor

from otoscope.dictionaries import L1, Dictionary, ReluDictionary, load_dictionary, train
from otoscope.dictionaries.kernels import dispatch
from otoscope.dictionaries.training.learner import Batch, Scaling, TrainingPlan
from otoscope.dictionaries.training.optimiser import Optimiser
from otoscope.errors import InputError


def published_loss(spec: L1, p: dict[str, Tensor], x: Tensor) -> Tensor:
    """Squared error and weighted values, summed over frames."""
    if spec.tied:
        code = torch.relu(x @ p["decoder"].T + p["encoder_bias"])
        squared = (x - code @ p["decoder"]).square()
        return D / spec.alpha * (spec.alpha * squared.mean(dim=1) + code.sum(dim=1)).sum()
    code = torch.relu((x - p["decoder_bias"]) @ p["encoder"].T + p["encoder_bias"])
    lengths = torch.ones(N) if spec.unit_decoder else p["decoder"].norm(dim=1)
    squared = (x - code @ p["decoder"] - p["decoder_bias"]).square()
    return squared.sum() + spec.l1 * (code * lengths).sum()


CASES = {
    "untied": L1(N, l1=2.0),
    "untied, values weighted by the length of their row": L1(N, l1=2.0, unit_decoder=False),
    "tied": L1(N, tied=True, alpha=3.0),
}


@pytest.mark.parametrize("how", ["products", "sparse kernels", "plain sparse kernels"])
@pytest.mark.parametrize("spec", CASES.values(), ids=CASES)
def test_gradients_equal_autograd_of_the_published_loss(spec: L1, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "plain sparse kernels":
        monkeypatch.setattr(dispatch, "_compiled", lambda: None)
    made = shaken(spec, sparse=how != "products")
    assert_gradients_equal_autograd(made, lambda p, x: published_loss(spec, p, x), frames())


@pytest.mark.parametrize("spec", CASES.values(), ids=CASES)
def test_a_batch_without_any_active_feature_teaches_the_bias_of_the_output_alone(spec: L1) -> None:
    for sparse in (False, True):
        made = shaken(spec, sparse=sparse)
        made.parameters["encoder_bias"].fill_(-1e4)
        gradients, metrics = made.gradients(Batch.of(frames()), LAST_STEP)
        assert float(metrics["l0"]) == 0
        assert all(bool(g.any()) == (name == "decoder_bias") for name, g in gradients.items())
        assert all(bool(torch.isfinite(g).all()) for g in gradients.values())


def test_chunks_may_differ_in_how_they_are_computed() -> None:
    x = frames()
    x[:40] *= 0.01
    mixed, products = shaken(L1(N)), shaken(L1(N))
    for made in (mixed, products):
        made.parameters["encoder_bias"].fill_(-0.5)
    counts = [
        float((mixed.weights["encoder"] @ (part - mixed.weights["decoder_bias"]).T > 0.5).float().mean())
        for part in x.split(32)
    ]
    mixed.sparse_below = (min(counts) + max(counts)) / 2
    one, other = (made.gradients(Batch.of(x), LAST_STEP)[0] for made in (mixed, products))
    assert all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-7) for name in one)


def test_the_sparsity_term_warms_up() -> None:
    made = L1(N, sparsity_warm_up=0.5).learner(TrainingPlan(D, 100, 1, 0, torch.device("cpu")))
    assert [made.sparsity_weight(step) for step in (0, 24, 49, 99)] == [0.02, 0.5, 1.0, 1.0]
    assert L1(N, sparsity_warm_up=0).learner(TrainingPlan(D, 100, 1, 0, torch.device("cpu"))).sparsity_weight(0) == 1


def test_a_tied_dictionary_starts_orthogonal_and_keeps_rows_of_length_one() -> None:
    rows = L1(D, tied=True).learner(TrainingPlan(D, 10, 1, 0, torch.device("cpu"))).parameters["decoder"]
    assert torch.allclose(rows @ rows.T, torch.eye(D), atol=1e-5)
    learner = learn(L1(20, tied=True, alpha=4.0), planted(500, D, 20, 2).x, steps=20, lr=1e-2)
    assert set(learner.parameters) == {"encoder_bias", "decoder"}
    assert torch.allclose(learner.parameters["decoder"].norm(dim=1), torch.ones(20), atol=1e-5)


@pytest.mark.parametrize("spec", CASES.values(), ids=CASES)
def test_the_dictionary_takes_raw_activations(spec: L1) -> None:
    made = shaken(spec)
    generator = torch.Generator().manual_seed(9)
    mean, scale = 3 * torch.randn(D, generator=generator), 0.4
    x = frames()
    raw = x / scale + mean
    dictionary = made.dictionary(Scaling.of(mean, scale), sites=("encoder.2.resid_post",), name="mine")
    assert torch.allclose(
        dictionary.decoder.norm(dim=1),
        made.weights["decoder"].norm(dim=1) if spec.unit_decoder else torch.ones(N),
        atol=1e-5,
    )
    w = made.weights
    code = torch.relu((x - w["decoder_bias"]) @ w["encoder"].T + w["encoder_bias"])
    expected = (code @ w["decoder"] + w["decoder_bias"]) / scale + mean
    assert torch.allclose(dictionary.reconstruct(raw[None])[0], expected, atol=1e-3)


def test_a_tied_dictionary_of_centred_activations_has_no_bias_of_the_output() -> None:
    made = shaken(L1(N, tied=True))
    dictionary = made.dictionary(Scaling.of(torch.zeros(D), 1.0), sites=("encoder.2.resid_post",), name="mine")
    assert dictionary.decoder_bias.count_nonzero() == 0
    assert torch.equal(dictionary.encoder, dictionary.decoder)


def test_a_trained_dictionary_is_saved_as_what_saelens_calls_standard(store: object, tmp_path: Path) -> None:
    made: Dictionary = train(store, L1(32, l1=2.0), steps=30, batch_size=256, progress=False, to=tmp_path / "l1")  # type: ignore[arg-type]
    loaded = load_dictionary(tmp_path / "l1")
    assert isinstance(loaded, ReluDictionary)
    assert loaded.kind == "standard"
    assert loaded.fingerprint == made.fingerprint
    assert loaded.metadata["training"]["spec"]["kind"] == "l1"


def test_the_step_does_not_change_the_frames() -> None:
    x = frames()
    before = x.clone()
    made = shaken(L1(N))
    Optimiser(made).step(Batch.of(x), 0, 1e-3)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_features": 0}, "n_features must be at least 1, got 0"),
        ({"n_features": 8, "l1": -1.0}, "l1 must be at least 0"),
        ({"n_features": 8, "alpha": 0.0}, "alpha above 0"),
        ({"n_features": 8, "tied": True, "unit_decoder": False}, "leave unit_decoder on"),
        ({"n_features": 8, "sparsity_warm_up": 1.5}, "share between 0 and 1, got 1.5"),
        ({"n_features": 8, "resample_every": 0}, "at least 1 step, got 0"),
    ],
)
def test_impossible_l1_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        L1(**settings)  # type: ignore[arg-type]
