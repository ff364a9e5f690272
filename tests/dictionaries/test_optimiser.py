"""The optimiser takes the published steps: equal to torch's Adam and RAdam with projection, clipping and unit rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from otoscope.dictionaries.kernels import dispatch
from otoscope.dictionaries.training.learner import Batch, Learner, Scaling
from otoscope.dictionaries.training.optimiser import Optimiser

SHAPES = {"encoder": (70, 13), "bias": (70,), "decoder": (70, 13), "kernel": (5, 3, 4)}
NOTHING = Batch.of(torch.zeros(1, 1))


class Given(Learner):
    """A learner that is handed its gradients, of very unequal sizes from step to step."""

    unit_rows = ("decoder",)

    def __init__(self, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.parameters = {name: torch.randn(*s, generator=generator).to(dtype) for name, s in SHAPES.items()}
        self.parameters["decoder"] /= self.parameters["decoder"].norm(dim=1, keepdim=True)
        self.state = {}
        self.rewritten: Tensor | None = None

    def gradients(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(step)
        size = 10.0 ** (step % 5 - 3)
        drawn = {n: torch.randn(*s, generator=generator) * size for n, s in SHAPES.items()}
        drawn["encoder"][: step % 40] = 0
        return {name: g.to(self.parameters[name]) for name, g in drawn.items()}, {}

    def after_step(self, batch: Batch, step: int) -> tuple[str, ...]:
        return ("encoder", "decoder") if self.rewritten is not None else ()

    @property
    def rewritten_rows(self) -> Tensor | None:
        return self.rewritten

    def dictionary(self, scaling: Scaling, *, sites: tuple[str, ...], name: str) -> Any:
        raise NotImplementedError


def published(steps: int, *, kind: str, clip_norm: float | None, eps: float, lr: float) -> dict[str, Tensor]:
    """Return the parameters after some steps of torch's own optimiser in float64."""
    learner = Given(dtype=torch.float64)
    parameters = learner.parameters
    made = torch.optim.RAdam if kind == "radam" else torch.optim.Adam
    adam = made(list(parameters.values()), lr=lr, betas=(0.9, 0.999), eps=eps)
    for step in range(steps):
        for name, gradient in learner.gradients(NOTHING, step)[0].items():
            parameters[name].grad = gradient
        rows, gradient = parameters["decoder"], parameters["decoder"].grad
        assert gradient is not None
        gradient -= (gradient * rows).sum(dim=1, keepdim=True) * rows
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters.values(), clip_norm)
        adam.step()
        rows /= rows.norm(dim=1, keepdim=True)
    return parameters


@pytest.fixture(params=["compiled", "plain"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(dispatch, "_compiled", lambda: None)
    return request.param


def run(optimiser: Optimiser, steps: range, lr: float = 3e-3) -> dict[str, Tensor]:
    for step in steps:
        optimiser.step(NOTHING, step, lr)
    return {name: parameter.clone() for name, parameter in optimiser.learner.parameters.items()}


@pytest.mark.parametrize("kind", ["adam", "radam"])
@pytest.mark.parametrize("clip_norm", [1.0, None])
@pytest.mark.parametrize("eps", [1e-8, 1e-5])
def test_many_steps_equal_the_published_optimiser(kind: Any, clip_norm: float | None, eps: float, backend: str) -> None:
    found = run(Optimiser(Given(), eps=eps, kind=kind, clip_norm=clip_norm), range(60))
    expected = published(60, kind=kind, clip_norm=clip_norm, eps=eps, lr=3e-3)
    # without a larger eps, entries that are 0 but for rounding are divided by themselves and move by a full step
    limit = 5e-6 if eps > 1e-8 else 1e-4
    for name in SHAPES:
        assert float((found[name] - expected[name]).abs().max()) < limit, name
    start = Given().parameters
    assert all(float((found[name] - start[name]).abs().max()) > 1e-3 for name in SHAPES)


def test_leaving_out_the_projection_or_the_clipping_would_be_noticed() -> None:
    expected = published(60, kind="adam", clip_norm=1.0, eps=1e-8, lr=3e-3)["decoder"]
    without_clipping = run(Optimiser(Given(), clip_norm=None), range(60))["decoder"]
    free = Given()
    free.unit_rows = ()
    without_projection = run(Optimiser(free), range(60))["decoder"]
    assert float((without_clipping - expected).abs().max()) > 1e-3
    assert float((without_projection - expected).abs().max()) > 1e-3


def test_unit_rows_keep_their_length(backend: str) -> None:
    found = run(Optimiser(Given()), range(40), lr=0.1)
    assert torch.allclose(found["decoder"].norm(dim=1), torch.ones(70), atol=1e-6)
    assert not torch.allclose(found["encoder"].norm(dim=1), torch.ones(70), atol=1e-2)


@pytest.mark.parametrize("kind", ["adam", "radam"])
def test_a_resumed_run_ends_with_the_same_bits(kind: Any, backend: str) -> None:
    whole = run(Optimiser(Given(), kind=kind), range(30))
    first = Optimiser(Given(), kind=kind)
    half = run(first, range(11))
    kept = {name: value.clone() for name, value in first.tensors().items()}
    resumed = Given(seed=5)
    for name, parameter in resumed.parameters.items():
        parameter.copy_(half[name])
    second = Optimiser(resumed, kind=kind)
    second.restore(kept)
    assert all(torch.equal(value, whole[name]) for name, value in run(second, range(11, 30)).items())


def test_the_number_of_threads_does_not_change_a_bit_of_an_update() -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(run(Optimiser(Given()), range(12)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0][name], results[1][name]) for name in SHAPES)


def test_moments_move_between_the_compiled_and_the_plain_update(monkeypatch: pytest.MonkeyPatch) -> None:
    optimiser = Optimiser(Given(), eps=1e-5)
    run(optimiser, range(7))
    monkeypatch.setattr(dispatch, "_compiled", lambda: None)
    run(optimiser, range(7, 15))
    monkeypatch.undo()
    found = run(optimiser, range(15, 20))
    expected = published(20, kind="adam", clip_norm=1.0, eps=1e-5, lr=3e-3)
    assert all(float((found[name] - expected[name]).abs().max()) < 5e-6 for name in SHAPES)


def test_rewritten_rows_lose_their_moments_and_others_keep_theirs(backend: str) -> None:
    learner = Given()
    optimiser = Optimiser(learner)
    run(optimiser, range(5))
    learner.rewritten = torch.tensor([2, 69])
    run(optimiser, range(5, 6))
    moments = optimiser.tensors()
    for name in ("encoder.exp_avg", "encoder.exp_avg_sq", "decoder.exp_avg", "decoder.exp_avg_sq"):
        assert moments[name][[2, 69]].count_nonzero() == 0
        assert moments[name][50:60].count_nonzero() > 0
    assert moments["bias.exp_avg"][[2, 69]].count_nonzero() == 2
