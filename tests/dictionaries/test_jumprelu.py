"""JumpReLU: gradients are the paper's pseudo-derivatives, thresholds learn, and sparsity can be steered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from planted import learn, planted
from shaken import LAST_STEP, D, N, T, assert_gradients_equal_autograd, frames, shaken
from torch import Tensor

from otoscope.dictionaries import JumpReLU, ThresholdDictionary, load_dictionary, train
from otoscope.dictionaries.kernels import dispatch
from otoscope.dictionaries.training.learner import Batch, Scaling
from otoscope.errors import InputError

DEAD = [2, 5, 17]
UNIT = D**0.5
"""Thresholds are learnt in the length of a frame."""


class Jump(torch.autograd.Function):
    """JumpReLU with the pseudo-derivative of the paper's equation 11, the kernel a rectangle of width 1."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return z * (z > threshold)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        z, threshold = ctx.saved_tensors
        rectangle = ((z - threshold) / ctx.bandwidth).abs() <= 0.5
        by_threshold = -threshold / ctx.bandwidth * rectangle * gradient
        return (z > threshold) * gradient, by_threshold.sum(dim=0), None


class Heaviside(torch.autograd.Function):
    """The step function with the pseudo-derivative of equation 12."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        z, threshold = ctx.saved_tensors
        rectangle = ((z - threshold) / ctx.bandwidth).abs() <= 0.5
        return torch.zeros_like(z), (-1 / ctx.bandwidth * rectangle * gradient).sum(dim=0), None


def published_loss(spec: JumpReLU, p: dict[str, Tensor], x: Tensor) -> Tensor:
    z = (x - p["decoder_bias"]) @ p["encoder"].T + p["encoder_bias"]
    threshold = p["threshold"] * UNIT
    code = Jump.apply(z, threshold, spec.bandwidth)
    active = Heaviside.apply(z, threshold, spec.bandwidth).sum(dim=1).mean()
    loss = (x - code @ p["decoder"] - p["decoder_bias"]).square().sum()
    if spec.target_l0 is None:
        loss = loss + len(x) * spec.l0 * active
    else:
        loss = loss + len(x) * D * spec.target_weight * (active / spec.target_l0 - 1).square()
    return loss + spec.pre_act * (threshold - z)[:, DEAD].relu().sum()


CASES = {
    "weight": JumpReLU(N, bandwidth=0.8, threshold=0.3),
    "target": JumpReLU(N, bandwidth=0.8, threshold=0.3, target_l0=9.0),
    "dead features are pulled": JumpReLU(N, bandwidth=0.8, threshold=0.3, pre_act=0.7, dead_after_frames=10**6),
}


@pytest.mark.parametrize("how", ["products", "sparse kernels", "plain sparse kernels"])
@pytest.mark.parametrize("spec", CASES.values(), ids=CASES)
def test_gradients_equal_the_pseudo_derivatives(spec: JumpReLU, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "plain sparse kernels":
        monkeypatch.setattr(dispatch, "_compiled", lambda: None)
    made = shaken(spec, dead=DEAD, sparse=how != "products")
    assert_gradients_equal_autograd(made, lambda p, x: published_loss(spec, p, x), frames())


def test_without_entries_near_them_thresholds_stay() -> None:
    made = shaken(JumpReLU(N, bandwidth=1e-6))
    gradients, _ = made.gradients(Batch.of(frames()), LAST_STEP)
    assert gradients["threshold"].count_nonzero() == 0


def test_thresholds_learn_and_never_fall_below_zero() -> None:
    x = planted(4000, D, 20, 2).x
    learner = learn(JumpReLU(24, l0=0.2), x, steps=100, lr=1e-2)
    assert learner.parameters["threshold"].dtype == torch.float32
    threshold = learner.parameters["threshold"] * UNIT
    assert float(threshold.min()) >= 0
    assert float((threshold - 0.1).abs().mean()) > 0.02


def test_a_target_is_reached_from_both_sides() -> None:
    x = planted(4000, D, 20, 4).x
    x *= (D / x.square().sum(dim=1).mean()).sqrt()
    reached = []
    for target in (2.0, 6.0):
        learner = learn(JumpReLU(24, target_l0=target), x, steps=200, lr=2e-2)
        reached.append(float(learner.gradients(Batch.of(x), 199)[1]["l0"]))
    assert reached == pytest.approx([2.0, 6.0], rel=0.2)


def test_a_dead_feature_is_pulled_up_by_the_pre_activation_loss_and_stays_without_it() -> None:
    pulls = []
    for weight in (0.0, 0.5):
        made = shaken(JumpReLU(N, pre_act=weight, dead_after_frames=T), dead=[7])
        made.parameters["encoder_bias"][7] = -50.0
        gradients, _ = made.gradients(Batch.of(frames()), LAST_STEP)
        pulls.append(float(gradients["encoder_bias"][7]))
    assert pulls[0] == 0
    assert pulls[1] < 0, "descending the loss raises the bias"


def test_the_dictionary_takes_raw_activations_with_thresholds_in_their_unit() -> None:
    made = shaken(JumpReLU(N, threshold=0.5))
    mean, scale, x = torch.arange(float(D)), 0.25, frames()
    dictionary = made.dictionary(Scaling.of(mean, scale), sites=("encoder.2.resid_post",), name="mine")
    p = made.parameters
    z = (x - p["decoder_bias"]) @ p["encoder"].T + p["encoder_bias"]
    code = z * (z > p["threshold"] * UNIT)
    assert torch.allclose(dictionary.encode(x / scale + mean).dense() * scale, code, atol=1e-4)
    expected = (code @ p["decoder"] + p["decoder_bias"]) / scale + mean
    assert torch.allclose(dictionary.reconstruct((x / scale + mean)[None])[0], expected, atol=1e-3)


def test_a_trained_dictionary_comes_back_with_its_thresholds(store: object, tmp_path: Path) -> None:
    made = train(store, JumpReLU(32), steps=30, batch_size=256, progress=False, to=tmp_path / "jump")  # type: ignore[arg-type]
    loaded = load_dictionary(tmp_path / "jump")
    assert isinstance(made, ThresholdDictionary)
    assert isinstance(loaded, ThresholdDictionary)
    assert torch.equal(loaded.threshold, made.threshold)
    assert loaded.kind == "jumprelu"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bandwidth": 0.0}, "bandwidth must be above 0"),
        ({"threshold": -0.1}, "threshold must be above 0"),
        ({"l0": -1.0}, "l0 must be at least 0"),
        ({"target_l0": 9.0}, "target_l0 must be above 0 and at most n_features, got 9"),
    ],
)
def test_impossible_jumprelu_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        JumpReLU(8, **settings)  # type: ignore[arg-type]
