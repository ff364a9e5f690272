"""Adam with what dictionaries need around it: one call is one whole training step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from otoscope.dictionaries.training.learner import Batch, Learner

CLIP_NORM = 1.0
_TINY = 1e-12


class Optimiser:
    """Adam (Kingma and Ba 2015) or RAdam (Liu et al. 2020) on a learner's parameters, unit rows kept.

    A gradient longer than `clip_norm` is shortened to it; None: never.
    """

    def __init__(
        self,
        learner: Learner,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        clip_norm: float | None = CLIP_NORM,
        kind: Literal["adam", "radam"] = "adam",
    ) -> None:
        self.learner, self.clip_norm = learner, clip_norm
        parameters = list(learner.parameters.values())
        self.adam: torch.optim.Optimizer
        if kind == "radam":
            self.adam = torch.optim.RAdam(parameters, lr=lr, betas=betas, eps=eps)
        else:
            self.adam = torch.optim.Adam(parameters, lr=lr, betas=betas, eps=eps, fused=True)

    def step(self, batch: Batch, step: int, lr: float) -> dict[str, Tensor]:
        """Learn from one batch; return its metrics."""
        gradients, metrics = self.learner.gradients(batch, step)
        parameters = self.learner.parameters
        for name in self.learner.unit_rows:
            rows, gradient = parameters[name], gradients[name]
            gradient -= (gradient * rows).sum(dim=1, keepdim=True) * rows
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters.values(), self.clip_norm)
        for group in self.adam.param_groups:
            group["lr"] = lr
        self.adam.step()
        for name in self.learner.unit_rows:
            rows = parameters[name]
            rows /= rows.norm(dim=1, keepdim=True).clamp_min(_TINY)
        self._forget(self.learner.after_step(batch, step))
        return metrics

    def _forget(self, names: tuple[str, ...]) -> None:
        """Clear the moments of rows that the learner rewrote."""
        rows = self.learner.rewritten_rows
        if rows is None:
            return
        for name in names:
            for value in self.adam.state[self.learner.parameters[name]].values():
                if value.ndim:
                    value[rows] = 0

    def tensors(self) -> dict[str, Tensor]:
        """Return the moments of all parameters, by name, for a checkpoint."""
        return {
            f"{name}.{moment}": value
            for name, parameter in self.learner.parameters.items()
            for moment, value in self.adam.state[parameter].items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up the moments that `tensors()` returned."""
        for name, parameter in self.learner.parameters.items():
            prefix = f"{name}."
            self.adam.state[parameter] = {
                key.removeprefix(prefix): value.to(parameter.device)
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
