"""Dense-code architectures find planted directions; frozen, random and untrained ones do not."""

from __future__ import annotations

import pytest
import torch
from planted import Planted, learn, mean_max_cosine, planted
from torch import Tensor

from otoscope.dictionaries import L1, PCA, FrozenDecoder, Gated, JumpReLU, RandomBasis, SoftFrozenDecoder
from otoscope.dictionaries.training.learner import Spec, TrainingPlan

N_TRUE, N = 32, 48
FOUND = 0.95
TRAINED = {
    "L1": (24, L1(N, l1=1.5)),
    "L1 tied": (48, L1(N, tied=True, alpha=48.0)),
    "JumpReLU": (24, JumpReLU(N)),
    "Gated": (24, Gated(N, l1=3.0)),
}


def with_partners(d: int, k: int) -> Planted:
    """Planted features of which each brings its partner along in a fifth of the frames that it is active in."""
    independent = planted(12_000, d, N_TRUE, k)
    generator = torch.Generator().manual_seed(5)
    active = independent.code > 0
    partner = active[:, torch.arange(N_TRUE) ^ 1]
    active |= partner & (torch.rand(active.shape, generator=generator) < 0.2)
    code = active * (torch.rand(active.shape, generator=generator) + 0.5)
    return Planted(code @ independent.directions, independent.directions, code)


def scaled(x: Tensor) -> Tensor:
    """Centre frames and bring them to a mean squared length of d, as training from a store does."""
    x = x - x.mean(dim=0)
    return x * (x.shape[1] / x.square().sum(dim=1).mean()).sqrt()


def found(spec: Spec, data: Planted) -> float:
    return mean_max_cosine(learn(spec, scaled(data.x), steps=500, lr=6e-3).parameters["decoder"], data.directions)


@pytest.mark.parametrize(("d", "spec"), TRAINED.values(), ids=TRAINED)
@pytest.mark.parametrize("k", [2, 4])
def test_independent_features_are_found(d: int, spec: Spec, k: int) -> None:
    assert found(spec, planted(12_000, d, N_TRUE, k)) >= FOUND


@pytest.mark.parametrize(("d", "spec"), TRAINED.values(), ids=TRAINED)
def test_correlated_features_are_found(d: int, spec: Spec) -> None:
    data = with_partners(d, 2)
    together = torch.corrcoef(data.code.T)[0, 1]
    assert together > 0.1, "the features are not correlated"
    assert found(spec, data) >= FOUND


@pytest.mark.parametrize("spec", [FrozenDecoder(N, k=2), SoftFrozenDecoder(N, k=2)], ids=["frozen", "soft-frozen"])
def test_frozen_decoders_do_not_find_them(spec: Spec) -> None:
    assert found(spec, planted(12_000, 24, N_TRUE, 2)) < FOUND - 0.05


@pytest.mark.parametrize("spec", [spec for _, spec in TRAINED.values()], ids=TRAINED)
def test_untrained_ones_do_not_find_them(spec: Spec) -> None:
    data = planted(100, 24, N_TRUE, 2)
    learner = spec.learner(TrainingPlan(24, 10, 100, 0, torch.device("cpu")))
    assert mean_max_cosine(learner.parameters["decoder"], data.directions) < 0.75


def test_random_directions_and_principal_components_do_not_find_them() -> None:
    data = planted(12_000, 24, N_TRUE, 2)
    components = torch.linalg.eigh(torch.cov(data.x.T))[1].T
    for basis in (RandomBasis("", 24, N, k=2), PCA("", components, k=2)):
        assert mean_max_cosine(basis.directions(range(len(basis))), data.directions) < 0.75
