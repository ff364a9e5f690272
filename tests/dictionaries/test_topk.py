"""The TopK learner computes the published loss: its gradients equal autograd's, and dead features come back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from otoscope.dictionaries import TopK, TopKDictionary, train
from otoscope.dictionaries.architectures.topk import TopKLearner
from otoscope.dictionaries.kernels import dispatch
from otoscope.dictionaries.training.learner import Batch, TrainingPlan
from otoscope.errors import InputError

N, D, K, T = 50, 12, 4, 90


def learner(spec: TopK, *, dead: list[int], seed: int = 0) -> TopKLearner:
    """A learner with shaken weights, so that no gradient vanishes by symmetry.

    Dead features are positive in half of the frames, but the others always beat them.
    """
    made = spec.learner(TrainingPlan(D, 100, 10_000, seed, torch.device("cpu")))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in made.parameters.items():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        if name == "encoder_bias":
            parameter += 25.0 if dead else 0.0
            parameter[dead] = 0.0
    made.parameters["decoder"] /= made.parameters["decoder"].norm(dim=1, keepdim=True)
    made.state["silent_frames"][dead] = 10**9
    return made


def dense_loss(p: dict[str, Tensor], x: Tensor, spec: TopK, dead: list[int]) -> tuple[Tensor, Tensor]:
    """The published loss, written densely: fraction of variance unexplained, and AuxK beside it."""
    pre = (x - p["decoder_bias"]) @ p["encoder"].T + p["encoder_bias"]

    def keep(pre: Tensor, k: int) -> Tensor:
        values, indices = pre.topk(k, dim=1)
        return torch.zeros_like(pre).scatter(1, indices, values.relu())

    code = keep(pre, spec.k)
    x_hat = code @ p["decoder"] + p["decoder_bias"]
    main = (x - x_hat).square().sum() / (x - x.mean(dim=0)).square().sum()
    fired = (code > 0).any(dim=0)
    still_dead = [index for index in dead if not fired[index]]
    if not still_dead or spec.aux_coefficient == 0:
        return main, main.new_zeros(())
    k_aux = spec.k_aux or D // 2
    left_over = (x - x_hat).detach()
    mask = torch.full((N,), -torch.inf)
    mask[still_dead] = 0
    rebuilt = keep(pre + mask, min(k_aux, len(still_dead))) @ p["decoder"]
    scale = spec.aux_coefficient * min(len(still_dead) / k_aux, 1.0)
    return main, scale * (left_over - rebuilt).square().sum() / left_over.square().sum()


CASES = {
    "none dead": (TopK(N, k=K), []),
    "fewer dead than k_aux": (TopK(N, k=K), [1, 9, 30]),
    "more dead than k_aux": (TopK(N, k=K), list(range(5, 45))),
    "all dead but some": (TopK(N, k=K, k_aux=3, aux_coefficient=2.0), list(range(46))),
    "without the auxiliary loss": (TopK(N, k=K, aux_coefficient=0.0), [1, 2, 3]),
    "k = n": (TopK(N, k=N), []),
}


@pytest.mark.parametrize("backend", ["compiled", "plain"])
@pytest.mark.parametrize(("spec", "dead"), CASES.values(), ids=CASES)
def test_gradients_equal_autograd_of_the_dense_loss(
    spec: TopK, dead: list[int], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "plain":
        monkeypatch.setattr(dispatch, "_compiled", lambda: None)
    x = torch.randn(T, D, generator=torch.Generator().manual_seed(4)) * 3
    made = learner(spec, dead=dead)
    parameters = {name: p.clone().requires_grad_() for name, p in made.parameters.items()}
    main, auxiliary = dense_loss(parameters, x, spec, dead)
    (main + auxiliary).backward()
    assert bool(auxiliary > 0) == bool(dead and spec.aux_coefficient)

    gradients, metrics = made.gradients(Batch.of(x), 0)
    assert float(metrics["fvu"]) == pytest.approx(main.item(), rel=1e-5)
    assert float(metrics["aux"]) == pytest.approx(auxiliary.item(), rel=1e-5, abs=1e-9)
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        size = parameter.grad.abs().max().clamp_min(1e-9)
        assert float((gradients[name] - parameter.grad).abs().max() / size) < 2e-5, name


def test_the_auxiliary_loss_reaches_encoder_and_decoder_of_dead_features_only() -> None:
    x = torch.randn(T, D, generator=torch.Generator().manual_seed(4)) * 3
    dead = [3, 17, 40]
    with_aux, _ = learner(TopK(N, k=K), dead=dead).gradients(Batch.of(x), 0)
    without, _ = learner(TopK(N, k=K, aux_coefficient=0.0), dead=dead).gradients(Batch.of(x), 0)
    alive = [index for index in range(N) if index not in dead]
    for name in ("encoder", "decoder"):
        assert torch.equal(with_aux[name][alive], without[name][alive]), "the residual is a constant target"
        assert without[name][dead].count_nonzero() == 0
    assert with_aux["decoder"][dead].count_nonzero() > 0


def test_a_step_on_the_auxiliary_loss_makes_dead_features_rebuild_the_residual() -> None:
    x = torch.randn(T, D, generator=torch.Generator().manual_seed(4)) * 3
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
