"""Made-up activations with known directions behind them, a bare training loop, and how well directions were found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.dictionaries.training.learner import Batch, Learner, Scaling, Spec, TrainingPlan
from otoscope.dictionaries.training.optimiser import Optimiser
from otoscope.dictionaries.training.schedule import learning_rate

FAR_FROM_LEARNERS = 1_000_003
"""Added to seeds: a learner draws its first weights from its own seed, and must not start from the planted ones."""


@dataclass(frozen=True)
class Planted:
    """Frames `x [t, d]` that are sums of a few of `directions [n, d]`, with their strengths `code [t, n]`."""

    x: Tensor
    directions: Tensor
    code: Tensor


def planted(t: int, d: int, n: int, k: int, *, seed: int = 0, noise: float = 0.0) -> Planted:
    """Draw `k` of `n` random unit directions for each frame, strengths from 0.5 to 1.5."""
    generator = torch.Generator().manual_seed(seed + FAR_FROM_LEARNERS)
    directions = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=1)
    chosen = torch.rand(t, n, generator=generator).topk(k, dim=1).indices
    code = torch.zeros(t, n).scatter_(1, chosen, torch.rand(t, k, generator=generator) + 0.5)
    x = code @ directions + noise * torch.randn(t, d, generator=generator)
    return Planted(x, directions, code)


def learn(
    spec: Spec, x: Tensor, y: Tensor | None = None, *, steps: int, lr: float, batch_size: int = 512, seed: int = 0
) -> Learner:
    """Train on frames `x [t, d]` (or segments, adjacent rows of `x`) without files; `y`: what is to be rebuilt."""
    segment = spec.segment
    per_step = max(batch_size // segment, 1)
    plan = TrainingPlan(
        x.shape[1], steps, steps * per_step * segment, seed, torch.device("cpu"), None if y is None else y.shape[1]
    )
    learner = spec.learner(plan)
    optimiser = Optimiser(learner, lr, spec.betas)
    generator = torch.Generator().manual_seed(seed)
    n_segments = len(x) // segment
    for step in range(steps):
        rows = torch.randint(n_segments, (per_step,), generator=generator)[:, None] * segment + torch.arange(segment)
        shown = x[rows.flatten()]
        target = shown if y is None else y[rows.flatten()]
        optimiser.step(Batch(shown, target, segment), step, learning_rate(step, steps, lr))
    return learner


def unscaled(d_in: int, d_out: int | None = None) -> Scaling:
    """Return the scaling of data that was trained on as it is."""
    ones = [torch.ones(d, dtype=torch.float64) for d in (d_in, d_out or d_in)]
    return Scaling(0 * ones[0], ones[0], 0 * ones[1], ones[1])


def mean_max_cosine(found: Tensor, truth: Tensor) -> float:
    """Return the mean over true directions of the largest cosine with any found one (MMCS)."""
    unit = torch.nn.functional.normalize
    return float((unit(truth, dim=1) @ unit(found, dim=1).T).amax(dim=1).mean())
