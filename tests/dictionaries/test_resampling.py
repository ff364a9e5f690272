"""Dead features are resampled: they come back, their moments are cleared, and a resumed run does the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from planted import Planted, planted
from torch import Tensor

from otoscope.dictionaries import L1, Gated, JumpReLU
from otoscope.dictionaries.architectures.l1 import L1Learner
from otoscope.dictionaries.training.dense_step import DenseLearner, DenseSpec
from otoscope.dictionaries.training.learner import Batch, TrainingPlan
from otoscope.dictionaries.training.optimiser import Optimiser
from otoscope.dictionaries.training.resampling import resample

D, N, BATCH, STEPS = 16, 30, 256, 120
DEAD = [0, 7, 8, 21]
EVERY = {
    "L1": L1(N, l1=1.0, resample_every=20, dead_after_frames=10 * BATCH),
    "tied L1": L1(N, tied=True, alpha=float(D), resample_every=20, dead_after_frames=10 * BATCH),
    "JumpReLU": JumpReLU(N, l0=1.0, resample_every=20, dead_after_frames=10 * BATCH),
    "Gated": Gated(N, l1=1.0, resample_every=20, dead_after_frames=10 * BATCH),
}
every_spec = pytest.mark.parametrize("spec", EVERY.values(), ids=EVERY)


@pytest.fixture(scope="module")
def data() -> Planted:
    made = planted(3000, D, 20, 2)
    return Planted(made.x * 3, made.directions, made.code)


def begin(spec: DenseSpec) -> tuple[DenseLearner, Optimiser]:
    learner = spec.learner(TrainingPlan(D, STEPS, STEPS * BATCH, 0, torch.device("cpu")))
    assert isinstance(learner, DenseLearner)
    return learner, Optimiser(learner, spec.betas)


def go(learner: DenseLearner, optimiser: Optimiser, x: Tensor, steps: range) -> None:
    for step in steps:
        rows = torch.randint(len(x), (BATCH,), generator=torch.Generator().manual_seed(step))
        optimiser.step(Batch.of(x[rows]), step, 5e-3)


def silence(learner: DenseLearner) -> None:
    """Switch features off, as training does when a bias falls too far."""
    learner.parameters["encoder_bias"][DEAD] = -1e4
    if "magnitude_bias" in learner.parameters:
        learner.parameters["magnitude_bias"][DEAD] = -1e4


def fires(learner: DenseLearner, x: Tensor) -> list[bool]:
    learner.state["silent_frames"].zero_()
    learner.gradients(Batch.of(x), STEPS - 1)
    return [bool(learner.state["silent_frames"][feature] == 0) for feature in DEAD]


@every_spec
def test_dead_features_come_back_and_without_resampling_they_do_not(spec: DenseSpec, data: Planted) -> None:
    alive = {}
    for name, chosen in {"resampled": spec, "never": replace(spec, resample_every=None)}.items():
        learner, optimiser = begin(chosen)
        go(learner, optimiser, data.x, range(10))
        silence(learner)
        go(learner, optimiser, data.x, range(10, 50))
        alive[name] = fires(learner, data.x)
    assert alive == {"resampled": [True] * len(DEAD), "never": [False] * len(DEAD)}


def test_a_resampling_that_is_written_but_never_called_leaves_them_dead(data: Planted) -> None:
    class NeverCalled(L1Learner):
        """As in whisper-sae, where nothing in the training loop calls the resampling."""

        def after_step(self, batch: Batch, step: int) -> tuple[str, ...]:
            return ()

    spec = L1(N, l1=1.0, resample_every=20, dead_after_frames=10 * BATCH)
    silent = NeverCalled(spec, begin(spec)[0].plan)
    optimiser = Optimiser(silent)
    go(silent, optimiser, data.x, range(10))
    silence(silent)
    go(silent, optimiser, data.x, range(10, 50))
    assert fires(silent, data.x) == [False] * len(DEAD)


@every_spec
def test_the_optimiser_forgets_what_it_knew_of_resampled_features_only(spec: DenseSpec, data: Planted) -> None:
    learner, optimiser = begin(spec)
    go(learner, optimiser, data.x, range(10))
    silence(learner)
    go(learner, optimiser, data.x, range(10, 19))
    moments = {name: value for name, value in optimiser.tensors().items() if value.ndim and "decoder_bias" not in name}
    assert all(bool(value[DEAD].any()) for name, value in moments.items() if name.startswith("encoder.exp_avg_sq"))
    go(learner, optimiser, data.x, range(19, 20))
    rewritten = learner.rewritten_rows
    assert rewritten is not None
    assert set(DEAD) <= set(rewritten.tolist())
    kept = [feature for feature in range(N) if feature not in rewritten.tolist()]
    for name, value in optimiser.tensors().items():
        if value.ndim and "decoder_bias" not in name:
            assert value[rewritten].count_nonzero() == 0, name
            if name in ("decoder.exp_avg_sq", "encoder.exp_avg_sq"):
                assert value[kept].count_nonzero() > 0, name
    assert learner.state["silent_frames"][rewritten].count_nonzero() == 0


@every_spec
def test_a_resumed_run_resamples_the_same(spec: DenseSpec, data: Planted) -> None:
    through, optimiser = begin(spec)
    go(through, optimiser, data.x, range(12))
    silence(through)
    go(through, optimiser, data.x, range(12, 30))
    saved = [
        {k: v.clone() for k, v in part.items()} for part in (through.parameters, through.state, optimiser.tensors())
    ]
    go(through, optimiser, data.x, range(30, 70))

    resumed, again = begin(spec)
    for target, values in zip((resumed.parameters, resumed.state), saved[:2], strict=True):
        for key, value in target.items():
            value.copy_(values[key])
    again.restore(saved[2])
    go(resumed, again, data.x, range(30, 70))
    assert all(torch.equal(value, resumed.parameters[key]) for key, value in through.parameters.items())


def test_nothing_is_resampled_late_in_the_run(data: Planted) -> None:
    learner, optimiser = begin(replace(EVERY["L1"], resample_until=0.1))
    silence(learner)
    go(learner, optimiser, data.x, range(10, 50))
    assert fires(learner, data.x) == [False] * len(DEAD)


def resampled(**more: Any) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    weights = {
        "encoder": 4 * torch.nn.functional.normalize(torch.randn(6, D, generator=generator), dim=1),
        "encoder_bias": torch.ones(6),
        "decoder": torch.nn.functional.normalize(torch.randn(6, D, generator=generator), dim=1),
        "decoder_bias": torch.ones(D),
    }
    frames = torch.randn(40, D, generator=generator)
    errors = more.get("errors", torch.zeros(40).index_fill_(0, torch.tensor([3, 11]), 1.0))
    rows = resample(weights, torch.tensor([1, 4]), frames, errors, generator)
    return weights, frames, rows


def test_a_resampled_feature_starts_on_a_badly_rebuilt_frame_with_a_short_encoder() -> None:
    weights, frames, rows = resampled()
    assert rows.tolist() == [1, 4]
    wanted = torch.nn.functional.normalize(frames[[3, 11]] - 1, dim=1)
    assert torch.allclose((weights["decoder"][rows] @ wanted.T).amax(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(weights["encoder"][rows], 0.2 * 4 * weights["decoder"][rows], atol=1e-5)
    assert weights["encoder_bias"].tolist() == [1, 0, 1, 1, 0, 1]


def test_frames_are_drawn_by_the_square_of_their_loss() -> None:
    weights = {"encoder": torch.eye(2), "encoder_bias": torch.zeros(2), "decoder": torch.eye(2)}
    frames, errors = torch.eye(2), torch.tensor([3.0, 1.0])
    first = 0
    for seed in range(500):
        fresh = {name: weight.clone() for name, weight in weights.items()} | {"decoder_bias": torch.zeros(2)}
        resample(fresh, torch.tensor([0]), frames, errors, torch.Generator().manual_seed(seed))
        first += int(fresh["decoder"][0, 0] == 1)
    assert first / 500 == pytest.approx(0.9, abs=0.04)


def test_without_any_error_nothing_is_resampled() -> None:
    weights, _, rows = resampled(errors=torch.zeros(40))
    assert len(rows) == 0
    assert weights["encoder_bias"].tolist() == [1] * 6
