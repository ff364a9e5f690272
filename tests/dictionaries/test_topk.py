"""The TopK learner computes the published loss: its gradients equal autograd's, and dead features come back."""

from __future__ import annotations

import pytest
import torch
from dense_reference import (
    auxiliary,
    frames,
    keep_per_frame,
    largest_error,
    pre_activations,
    shaken,
    unexplained,
)
from planted import Planted, mean_max_cosine, planted
from torch import Tensor

from otoscope.dictionaries import TopK, TopKDictionary, train
from otoscope.dictionaries.architectures.topk import TopKLearner
from otoscope.dictionaries.kernels import dispatch
from otoscope.dictionaries.training import sparse_step
from otoscope.dictionaries.training.learner import Batch, TrainingPlan
from otoscope.dictionaries.training.optimiser import Optimiser
from otoscope.dictionaries.training.schedule import learning_rate
from otoscope.errors import InputError

N, D, K, T = 50, 12, 4, 90


def learner(spec: TopK, *, dead: list[int]) -> TopKLearner:
    made = shaken(spec, D, dead=dead)
    assert isinstance(made, TopKLearner)
    return made


def dense_loss(p: dict[str, Tensor], x: Tensor, spec: TopK, dead: list[int]) -> Tensor:
    """The published loss, written densely: fraction of variance unexplained, AuxK, and Multi-TopK."""
    pre = pre_activations(p, x)
    code = keep_per_frame(pre, spec.k)
    loss = unexplained(p, x, code) + auxiliary(p, x, code, spec, dead)
    if spec.multi_topk:
        loss = loss + unexplained(p, x, keep_per_frame(pre, min(4 * spec.k, N))) / 8
    return loss


CASES = {
    "none dead": (TopK(N, k=K), []),
    "fewer dead than k_aux": (TopK(N, k=K), [1, 9, 30]),
    "more dead than k_aux": (TopK(N, k=K), list(range(5, 45))),
    "all dead but some": (TopK(N, k=K, k_aux=3, aux_coefficient=2.0), list(range(46))),
    "without the auxiliary loss": (TopK(N, k=K, aux_coefficient=0.0), [1, 2, 3]),
    "k = n": (TopK(N, k=N), []),
    "Multi-TopK": (TopK(N, k=K, multi_topk=True), []),
    "Multi-TopK with dead features": (TopK(N, k=K, multi_topk=True), [1, 9, 30]),
    "Multi-TopK over all features": (TopK(N, k=20, multi_topk=True), []),
}


@pytest.mark.parametrize("backend", ["compiled", "plain", "entry by entry"])
@pytest.mark.parametrize(("spec", "dead"), CASES.values(), ids=CASES)
def test_gradients_equal_autograd_of_the_dense_loss(
    spec: TopK, dead: list[int], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "plain":
        monkeypatch.setattr(dispatch, "_compiled", lambda: None)
    if backend == "entry by entry":  # as where dead features are many and few of them active
        monkeypatch.setattr(sparse_step, "ROOMY", 0)
    x, made = frames(T, D), learner(spec, dead=dead)
    errors = largest_error(made, Batch.of(x), lambda p: dense_loss(p, x, spec, dead))
    assert max(errors.values()) < 2e-5, errors
    _, metrics = made.gradients(Batch.of(x), 0)
    assert bool(metrics["aux"] > 0) == bool(dead and spec.aux_coefficient)


class ReversedSign(TopKLearner):
    """The mistake of FREUD: dead features are asked for minus the residual."""

    def _add_auxiliary(
        self, gradients: dict[str, Tensor], residual: Tensor, error: Tensor, x: Tensor, dead: Tensor
    ) -> Tensor:
        return super()._add_auxiliary(gradients, -residual, error, x, dead)


class ZeroEncoderGradient(TopKLearner):
    """The mistake of sparsify 1.3: neither AuxK nor Multi-TopK reaches the encoder."""

    def _add_auxiliary(
        self, gradients: dict[str, Tensor], residual: Tensor, error: Tensor, x: Tensor, dead: Tensor
    ) -> Tensor:
        apart = {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
        loss = super()._add_auxiliary(apart, residual, error, x, dead)
        gradients["decoder"] += apart["decoder"]
        return loss

    def further_gradients(
        self, gradients: dict[str, Tensor], batch: Batch, values: Tensor, indices: Tensor, x: Tensor, step: int
    ) -> Tensor:
        apart = {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
        loss = super().further_gradients(apart, batch, values, indices, x, step)
        gradients["decoder"] += apart["decoder"]
        return loss


class AttachedResidual(TopKLearner):
    """Another mistake of FREUD: the auxiliary loss also trains the main reconstruction to leave more over."""

    def rebuild(
        self, batch: Batch, variance: Tensor, values: Tensor, indices: Tensor, x: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        self.code = values, indices
        return super().rebuild(batch, variance, values, indices, x)

    def _add_auxiliary(
        self, gradients: dict[str, Tensor], residual: Tensor, error: Tensor, x: Tensor, dead: Tensor
    ) -> Tensor:
        loss = super()._add_auxiliary(gradients, residual, error, x, dead)
        attached = self.through_code(residual * (2 * self.spec.aux_coefficient / error), *self.code, x)
        for name, gradient in attached.items():
            gradients[name] += gradient
        return loss


def test_multi_topk_trains_the_encoder_and_a_zero_gradient_there_would_be_seen() -> None:
    x, spec = frames(T, D), TopK(N, k=K, multi_topk=True)
    wrong = ZeroEncoderGradient(spec, TrainingPlan(D, 100, 10_000, 0, torch.device("cpu")))
    right = learner(spec, dead=[])
    for name, parameter in wrong.parameters.items():
        parameter.copy_(right.parameters[name])
    assert largest_error(right, Batch.of(x), lambda p: dense_loss(p, x, spec, []))["encoder"] < 2e-5
    errors = largest_error(wrong, Batch.of(x), lambda p: dense_loss(p, x, spec, []))
    assert errors["encoder"] > 0.01
    assert errors["decoder"] < 2e-5


@pytest.fixture(scope="module")
def crowd() -> Planted:
    """48 directions, of which the 24 features that are alive at first cannot rebuild the half."""
    return planted(4000, 32, 48, 3)


def revived(kind: type[TopKLearner], data: Planted, **settings: float) -> tuple[float, float]:
    """Train with 40 of 64 features dead at first; return the dead share at the end and the mean max cosine."""
    steps, size = 200, 256
    spec = TopK(64, k=3, dead_after_frames=1000, **settings)  # type: ignore[arg-type]
    made = kind(spec, TrainingPlan(32, steps, steps * size, 0, torch.device("cpu")))
    made.parameters["encoder"][24:] *= 0.02
    optimiser, generator = Optimiser(made), torch.Generator().manual_seed(0)
    for step in range(steps):
        shown = data.x[torch.randint(len(data.x), (size,), generator=generator)]
        metrics = optimiser.step(Batch.of(shown), step, learning_rate(step, steps, 1e-2))
    return float(metrics["dead_share"]), mean_max_cosine(made.parameters["decoder"], data.directions)


def test_dead_features_come_back_and_learn_what_is_missing(crowd: Planted) -> None:
    dead, found = revived(TopKLearner, crowd)
    assert dead < 0.35, "48 of the 64 features are needed"
    assert found > 0.95


@pytest.mark.parametrize("mistake", [ReversedSign, ZeroEncoderGradient])
def test_the_mistakes_of_peers_leave_the_missing_directions_unlearned(
    mistake: type[TopKLearner], crowd: Planted
) -> None:
    assert revived(mistake, crowd)[1] < 0.85


def test_without_the_auxiliary_loss_dead_features_stay_dead(crowd: Planted) -> None:
    dead, found = revived(TopKLearner, crowd, aux_coefficient=0.0)
    assert dead > 0.5
    assert found < 0.85


def reached_by_the_auxiliary_loss(kind: type[TopKLearner]) -> set[int]:
    """Return the features whose gradient differs with and without the auxiliary loss; 3, 17 and 40 are dead."""
    gradients = []
    for coefficient in (1 / 32, 0.0):
        made = learner(TopK(N, k=K, aux_coefficient=coefficient), dead=[3, 17, 40])
        made.__class__ = kind
        gradients.append(made.gradients(Batch.of(frames(T, D)), 0)[0])
    with_it, without = gradients
    rows = [(with_it[name] != without[name]).any(dim=1) for name in ("encoder", "decoder")]
    return set((rows[0] | rows[1]).nonzero().flatten().tolist())


def test_the_auxiliary_loss_reaches_dead_features_only() -> None:
    assert reached_by_the_auxiliary_loss(TopKLearner) == {3, 17, 40}, "the residual is a constant target"
    assert len(reached_by_the_auxiliary_loss(AttachedResidual)) > 3


def test_a_step_on_the_auxiliary_loss_makes_dead_features_rebuild_the_residual() -> None:
    x = frames(T, D)
    made = learner(TopK(N, k=K, aux_coefficient=1.0, k_aux=6), dead=list(range(20, 50)))
    gradients, before = made.gradients(Batch.of(x), 0)
    assert float(before["aux"]) > 0
    for name in ("encoder", "decoder"):
        made.parameters[name][20:] -= 0.5 * gradients[name][20:]
    _, after = made.gradients(Batch.of(x), 0)
    assert float(after["aux"]) < float(before["aux"])


def test_a_feature_chosen_with_value_zero_stays_silent() -> None:
    made = learner(TopK(N, k=K), dead=[])
    made.parameters["encoder_bias"].fill_(-1e6)
    _, metrics = made.gradients(Batch.of(torch.randn(T, D)), 0)
    assert float(metrics["l0"]) == 0
    assert made.state["silent_frames"].tolist() == [T] * N


def test_silence_is_counted_in_frames_and_ends_when_the_feature_fires() -> None:
    made = learner(TopK(N, k=K, dead_after_frames=2 * T), dead=[])
    made.parameters["encoder_bias"][7] = -1e6
    x = torch.randn(T, D, generator=torch.Generator().manual_seed(0))
    dead = [round(N * float(made.gradients(Batch.of(x), step)[1]["dead_share"])) for step in range(3)]
    silent = made.state["silent_frames"]
    assert int(silent[7]) == 3 * T
    assert dead[0] == 0
    assert dead[1] >= 1
    made.parameters["encoder_bias"][7] = 1e6
    made.gradients(Batch.of(x), 3)
    assert int(silent[7]) == 0


def test_decoder_rows_keep_length_one(store: object) -> None:
    dictionary = train(store, TopK(32, k=3), steps=30, batch_size=256, progress=False)  # type: ignore[arg-type]
    assert isinstance(dictionary, TopKDictionary)
    assert torch.allclose(dictionary.decoder.norm(dim=1), torch.ones(32), atol=1e-5)


def test_k_can_warm_up() -> None:
    made = TopK(N, k=4, k_start=24, k_warm_up=0.5).learner(TrainingPlan(D, 100, 1, 0, torch.device("cpu")))
    assert [made.k_at(step) for step in (0, 25, 50, 99)] == [24, 14, 4, 4]


def test_initial_encoder_is_the_transposed_decoder_with_rows_of_length_one() -> None:
    made = TopK(N, k=K).learner(TrainingPlan(D, 1, 1, 0, torch.device("cpu")))
    assert torch.equal(made.parameters["encoder"], made.parameters["decoder"])
    assert torch.allclose(made.parameters["decoder"].norm(dim=1), torch.ones(N))
    assert made.parameters["decoder_bias"].count_nonzero() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_features": 0, "k": 1}, "n_features must be at least 1, got 0"),
        ({"n_features": 8, "k": 9}, "between 1 and n_features = 8, got 9"),
        ({"n_features": 8, "k": 0}, "got 0"),
        ({"n_features": 8, "k": 4, "k_start": 3}, "k_start must be between k = 4"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TopK(**settings)  # type: ignore[arg-type]
