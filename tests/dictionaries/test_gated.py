"""Gated dictionaries: the published loss with its frozen decoder, and magnitudes that do not shrink."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from planted import learn, mean_max_cosine, planted
from shaken import D, N, assert_gradients_equal_autograd, frames, shaken
from torch import Tensor

from otoscope.dictionaries import L1, Gated, GatedDictionary, load_dictionary, train
from otoscope.dictionaries.training.learner import Batch, Scaling
from otoscope.errors import InputError


def gated_code(p: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    raw = (x - p["decoder_bias"]) @ p["encoder"].T
    gates = torch.relu(raw + p["encoder_bias"])
    return (gates > 0) * torch.relu(raw * p["magnitude_scale"].exp() + p["magnitude_bias"]), gates


def published_loss(spec: Gated, p: dict[str, Tensor], x: Tensor) -> Tensor:
    """Equation 8 of the paper: the auxiliary reconstruction takes decoder and bias as constants."""
    code, gates = gated_code(p, x)
    main = (x - code @ p["decoder"] - p["decoder_bias"]).square().sum()
    auxiliary = (x - gates @ p["decoder"].detach() - p["decoder_bias"].detach()).square().sum()
    return main + spec.l1 * gates.sum() + auxiliary


def test_gradients_equal_autograd_of_the_published_loss() -> None:
    spec = Gated(N, l1=3.0)
    assert_gradients_equal_autograd(shaken(spec), lambda p, x: published_loss(spec, p, x), frames())


def test_the_auxiliary_loss_leaves_the_decoder_alone() -> None:
    made = shaken(Gated(N))
    made.parameters["magnitude_bias"].fill_(-1e4)  # no feature is active, though gates are open
    gradients, metrics = made.gradients(Batch.of(frames()), 99)
    assert float(metrics["l0"]) == 0
    assert float(metrics["aux"]) > 0
    assert gradients["decoder"].count_nonzero() == 0
    assert gradients["encoder"].count_nonzero() > 0


def test_gated_magnitudes_do_not_shrink_as_those_of_l1_do() -> None:
    made = planted(8000, 24, 32, 2)
    x = made.x * 2.8
    lost = {}
    for spec in (Gated(48, l1=3.0), L1(48, l1=3.0)):
        learner = learn(spec, x, steps=500, lr=6e-3)
        assert mean_max_cosine(learner.parameters["decoder"], made.directions) > 0.9
        dictionary = learner.dictionary(Scaling.of(torch.zeros(24), 1.0), sites=("",), name="mine")
        rebuilt = dictionary.reconstruct(x[None])[0]
        lost[spec.kind] = 1 - float((rebuilt * x).sum() / x.square().sum())
    assert lost["gated"] < 0.05 < 0.15 < lost["l1"]


def test_the_dictionary_takes_raw_activations() -> None:
    made = shaken(Gated(N))
    mean, scale, x = torch.arange(float(D)), 0.25, frames()
    dictionary = made.dictionary(Scaling.of(mean, scale), sites=("encoder.2.resid_post",), name="mine")
    code, _ = gated_code(made.parameters, x)
    raw = x / scale + mean
    assert torch.allclose(dictionary.encode(raw).dense() * scale, code, atol=1e-4)
    expected = (code @ made.parameters["decoder"] + made.parameters["decoder_bias"]) / scale + mean
    assert torch.allclose(dictionary.reconstruct(raw[None])[0], expected, atol=1e-3)


def test_a_trained_dictionary_is_saved_under_saelens_names(store: object, tmp_path: Path) -> None:
    made = train(store, Gated(32), steps=30, batch_size=256, progress=False, to=tmp_path / "gated")  # type: ignore[arg-type]
    assert set(made.tensors()) == {"W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"}
    loaded = load_dictionary(tmp_path / "gated")
    assert isinstance(loaded, GatedDictionary)
    assert loaded.fingerprint == made.fingerprint


def test_impossible_gated_dictionaries_are_refused() -> None:
    with pytest.raises(InputError, match="l1 must be at least 0, got -1"):
        Gated(8, l1=-1.0)
    weights = shaken(Gated(N)).dictionary(Scaling.of(torch.zeros(D), 1.0), sites=("",), name="mine")
    with pytest.raises(InputError, match="magnitude_bias must have one entry for each of 50 features"):
        GatedDictionary.from_saved(
            weights.config(), {**weights.tensors(), "b_mag": torch.zeros(3)}, name="mine", site=""
        )
