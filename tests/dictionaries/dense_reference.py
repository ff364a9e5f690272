"""The published losses written densely, for autograd: what the sparse learners' own gradients must equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from otoscope.dictionaries.training.learner import Batch, Learner, Spec, TrainingPlan
from otoscope.dictionaries.training.sparse_step import SparseSpec

Parameters = dict[str, Tensor]
Keep = Callable[[Tensor, int], Tensor]
"""From pre-activations `[t, n]` and `k` to the dense code `[t, n]`."""


def frames(t: int, d: int) -> Tensor:
    """Return the frames that the tests of gradients share."""
    return torch.randn(t, d, generator=torch.Generator().manual_seed(4)) * 3


def shaken(spec: Spec, d: int, *, dead: Iterable[int] = (), seed: int = 0) -> Learner:
    """Return a learner with shaken weights, so that no gradient vanishes by symmetry.

    Dead features are positive in half of the frames, but the others always beat them.
    """
    dead = list(dead)
    made = spec.learner(TrainingPlan(d, 100, 10_000, seed, torch.device("cpu")))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in made.parameters.items():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        if name == "encoder_bias":
            parameter += 25.0 if dead else 0.0
            parameter[dead] = 0.0
    made.parameters["decoder"] /= made.parameters["decoder"].norm(dim=1, keepdim=True)
    made.state["silent_frames"][dead] = 10**9
    return made


def keep_per_frame(pre: Tensor, k: int) -> Tensor:
    """Return the code of the `k` strongest positive entries of each frame."""
    values, indices = pre.topk(k, dim=1)
    return torch.zeros_like(pre).scatter(1, indices, values.relu())


def keep_per_batch(pre: Tensor, k: int) -> Tensor:
    """Return the code of the `k · t` strongest positive entries of the batch."""
    values, indices = pre.relu().flatten().topk(k * len(pre))
    return torch.zeros_like(pre).flatten().scatter(0, indices, values).view_as(pre)


def pre_activations(p: Parameters, x: Tensor) -> Tensor:
    """Return the encoder's output `[t, n]`."""
    return (x - p["decoder_bias"]) @ p["encoder"].T + p["encoder_bias"]


def unexplained(p: Parameters, x: Tensor, code: Tensor, features: int | None = None) -> Tensor:
    """Return the fraction of variance unexplained by the first `features` of a code."""
    x_hat = code[:, :features] @ p["decoder"][:features] + p["decoder_bias"]
    return (x - x_hat).square().sum() / (x - x.mean(dim=0)).square().sum()


def auxiliary(p: Parameters, x: Tensor, code: Tensor, spec: SparseSpec, dead: Iterable[int]) -> Tensor:
    """Return the weighted loss of the dead features' reconstruction of what `code` leaves over (AuxK)."""
    fired = (code > 0).any(dim=0)
    still_dead = [index for index in dead if not fired[index]]
    if not still_dead or spec.aux_coefficient == 0:
        return x.new_zeros(())
    k_aux = spec.k_aux or x.shape[1] // 2
    left_over = (x - code @ p["decoder"] - p["decoder_bias"]).detach()
    mask = torch.full((spec.n_features,), -torch.inf)
    mask[still_dead] = 0
    rebuilt = keep_per_frame(pre_activations(p, x) + mask, min(k_aux, len(still_dead))) @ p["decoder"]
    scale = spec.aux_coefficient * min(len(still_dead) / k_aux, 1.0)
    return scale * (left_over - rebuilt).square().sum() / left_over.square().sum()


def largest_error(made: Learner, batch: Batch, loss: Callable[[Parameters], Tensor]) -> dict[str, float]:
    """Return how far the loss and each gradient of a learner are from autograd's, relative to their size."""
    parameters = {name: p.clone().requires_grad_() for name, p in made.parameters.items()}
    expected = loss(parameters)
    expected.backward()
    gradients, metrics = made.gradients(batch, 0)
    errors = {"loss": abs(float(metrics["loss"]) / expected.item() - 1)}
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        size = parameter.grad.abs().max().clamp_min(1e-9)
        errors[name] = float((gradients[name] - parameter.grad).abs().max() / size)
    return errors
