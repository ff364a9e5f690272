"""TopK, BatchTopK and Matryoshka find the directions that made-up activations were built from; controls do not."""

from __future__ import annotations

import pytest
import torch
from planted import (
    Planted,
    correlated,
    hierarchical,
    learn,
    mean_max_cosine,
    nearest_feature,
    planted,
)
from torch import Tensor

from otoscope.dictionaries import BatchTopK, Matryoshka, TopK
from otoscope.dictionaries.training.learner import Spec, TrainingPlan

T, D, N, WIDE = 4000, 64, 64, 96
"""Frames, width, planted directions, and the features that look for them."""


def found_by(spec: Spec, data: Planted, steps: int = 200) -> Tensor:
    """Return the directions `[n, d]` that training finds."""
    return learn(spec, data.x, steps=steps, lr=1e-2, batch_size=192).parameters["decoder"]


@pytest.mark.parametrize(
    "spec",
    [
        *(architecture(WIDE, k=k) for architecture in (TopK, BatchTopK) for k in (2, 4, 8)),
        *(Matryoshka(WIDE, k=k) for k in (2, 4)),
    ],
    ids=lambda spec: f"{spec.kind}-{spec.k}",
)
def test_directions_are_found_at_every_sparsity(spec: TopK | BatchTopK) -> None:
    data = planted(T, D, N, spec.k)
    assert mean_max_cosine(found_by(spec, data), data.directions) >= 0.95


@pytest.mark.parametrize("architecture", [TopK, BatchTopK, Matryoshka])
def test_directions_of_correlated_features_are_found(architecture: type[TopK | BatchTopK]) -> None:
    data = correlated(T, D, N, 4)
    together = torch.corrcoef((data.code > 0).float().T)
    assert float(together[0, 1:4].mean()) > float(together[0, 4:].mean()) + 0.1, "the data are correlated"
    assert mean_max_cosine(found_by(architecture(WIDE, k=4), data, 300), data.directions) >= 0.95


def test_random_directions_and_untrained_learners_find_nothing() -> None:
    data = planted(T, D, N, 4)
    random = torch.randn(WIDE, D, generator=torch.Generator().manual_seed(9))
    untrained = TopK(WIDE, k=4).learner(TrainingPlan(D, 1, 1, 0, torch.device("cpu"))).parameters["decoder"]
    assert mean_max_cosine(random, data.directions) < 0.5
    assert mean_max_cosine(untrained, data.directions) < 0.5


def test_frames_without_planted_directions_teach_nothing_about_them() -> None:
    data = planted(T, D, N, 4)
    noise = Planted(torch.randn(T, D, generator=torch.Generator().manual_seed(9)), data.directions, data.code)
    assert mean_max_cosine(found_by(TopK(WIDE, k=4), noise, steps=100), data.directions) < 0.6


def test_parents_and_children_are_told_apart_by_a_shared_budget_and_ordered_by_nesting() -> None:
    """A frame has 2 to 4 active features: a fixed k must merge child and parent, a budget for the batch need not."""
    data = hierarchical(T, D, 8, 6, 2)
    nesting = Matryoshka(WIDE, k=3, groups=(0.125, 0.875))
    fixed, shared, nested = (found_by(spec, data, 350) for spec in (TopK(WIDE, k=3), BatchTopK(WIDE, k=3), nesting))
    assert mean_max_cosine(shared, data.directions) >= 0.95
    assert mean_max_cosine(nested, data.directions) >= 0.95
    assert mean_max_cosine(fixed, data.directions[8:]) < 0.92, "children of TopK carry a part of their parents"

    general = [nearest_feature(decoder, data.directions[:8]) < nesting.edges[1] for decoder in (nested, shared)]
    assert bool(general[0].all())
    assert float(general[1].float().mean()) < 0.7, "without nesting the order means nothing"
