"""Learners in a state without symmetries, and a comparison of their gradients with autograd's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from otoscope.dictionaries.training.dense_step import DenseLearner, DenseSpec
from otoscope.dictionaries.training.learner import Batch, TrainingPlan

N, D, T = 50, 12, 90
LAST_STEP = 99

Loss = Callable[[dict[str, Tensor], Tensor], Tensor]


def shaken(spec: DenseSpec, *, dead: Sequence[int] = (), sparse: bool = False, chunk: int = 32) -> DenseLearner:
    """Return a learner with random weights that takes frames in chunks of `chunk`, by sparse kernels or products."""
    made = spec.learner(TrainingPlan(D, LAST_STEP + 1, 10_000, 0, torch.device("cpu")))
    assert isinstance(made, DenseLearner)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.parameters.items():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        if name == "threshold":
            parameter.abs_()
    made.state["silent_frames"][list(dead)] = 10**9
    made.chunk_frames = chunk
    made.sparse_below = (1.1 if sparse else 0.0) if made.sparse_below else 0.0
    return made


def frames(t: int = T) -> Tensor:
    return torch.randn(t, D, generator=torch.Generator().manual_seed(4)) * 1.5


def assert_gradients_equal_autograd(made: DenseLearner, loss: Loss, x: Tensor) -> None:
    """Compare with autograd of `loss(parameters, x)`, the published loss, divided by the variance of the frames."""
    parameters = {name: p.clone().requires_grad_() for name, p in made.parameters.items()}
    expected = loss(parameters, x) / (x - x.mean(dim=0)).square().sum()
    expected.backward()
    gradients, metrics = made.gradients(Batch.of(x), LAST_STEP)
    assert gradients.keys() == parameters.keys()
    assert float(metrics["loss"]) == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        size = parameter.grad.abs().max()
        assert size > 0, f"nothing to compare: {name}"
        assert float((gradients[name] - parameter.grad).abs().max() / size) < 2e-5, name
