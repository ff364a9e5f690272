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


def correlated(t: int, d: int, n: int, k: int, *, correlation: float = 0.5, group: int = 4, seed: int = 0) -> Planted:
    """Like `planted`, but the features of a group tend to be active in the same frames."""
    generator = torch.Generator().manual_seed(seed + FAR_FROM_LEARNERS)
    directions = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=1)
    shared = torch.randn(t, n // group, generator=generator).repeat_interleave(group, dim=1)
    drawn = correlation**0.5 * shared + (1 - correlation) ** 0.5 * torch.randn(t, n, generator=generator)
    strengths = torch.rand(t, k, generator=generator) + 0.5
    code = torch.zeros(t, n).scatter_(1, drawn.topk(k, dim=1).indices, strengths)
    return Planted(code @ directions, directions, code)


def hierarchical(
    t: int, d: int, parents: int, children: int, k: int, *, with_child: float = 0.4, seed: int = 0
) -> Planted:
    """Draw `k` parents for each frame, each `with_child` probability joined by one of its own `children`.

    The first `parents` directions are those of the parents; a child is never active without its parent.
    """
    generator = torch.Generator().manual_seed(seed + FAR_FROM_LEARNERS)
    n = parents * (1 + children)
    directions = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=1)
    chosen = torch.rand(t, parents, generator=generator).topk(k, dim=1).indices
    code = torch.zeros(t, n).scatter_(1, chosen, torch.rand(t, k, generator=generator) + 0.5)
    child = parents + chosen * children + torch.randint(children, (t, k), generator=generator)
    joined = torch.rand(t, k, generator=generator) < with_child
    code.scatter_(1, child, (torch.rand(t, k, generator=generator) + 0.5) * joined)
    return Planted(code @ directions, directions, code)


def slow_and_fast(t: int, d: int, n: int, k: int, *, seed: int = 0) -> Planted:
    """Draw `k` slow features for each pair of adjacent frames and `k` fast ones for each frame.

    The first `n` directions are slow, the other `n` fast; both kinds are equally frequent and strong.
    """
    generator = torch.Generator().manual_seed(seed + FAR_FROM_LEARNERS)
    directions = torch.nn.functional.normalize(torch.randn(2 * n, d, generator=generator), dim=1)
    slow = torch.rand(t // 2, n, generator=generator).topk(k, dim=1).indices.repeat_interleave(2, dim=0)
    fast = torch.rand(t, n, generator=generator).topk(k, dim=1).indices + n
    strengths = torch.rand(t, 2 * k, generator=generator) + 0.5
    code = torch.zeros(t, 2 * n).scatter_(1, torch.cat([slow, fast], dim=1), strengths)
    return Planted(code @ directions, directions, code)


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
    optimiser = Optimiser(learner, spec.betas)
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


def nearest_feature(found: Tensor, truth: Tensor) -> Tensor:
    """Return for each true direction which found one is nearest to it."""
    unit = torch.nn.functional.normalize
    return (unit(truth, dim=1) @ unit(found, dim=1).T).argmax(dim=1)


def mean_max_cosine(found: Tensor, truth: Tensor) -> float:
    """Return the mean over true directions of the largest cosine with any found one (MMCS)."""
    unit = torch.nn.functional.normalize
    return float((unit(truth, dim=1) @ unit(found, dim=1).T).amax(dim=1).mean())
