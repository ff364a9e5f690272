"""Adam with what dictionaries need around it: one call is one whole training step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from otoscope.dictionaries.training.learner import Batch, Learner

CLIP_NORM = 1.0
_TINY = 1e-12


class Optimiser:
    """Adam (Kingma and Ba 2015) on a learner's parameters, the gradient clipped at norm 1, unit rows kept."""

    def __init__(
        self, learner: Learner, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self.learner = learner
        self.adam = torch.optim.Adam(list(learner.parameters.values()), lr=lr, betas=betas, eps=eps, fused=True)

    def step(self, batch: Batch, step: int, lr: float) -> dict[str, Tensor]:
        """Learn from one batch; return its metrics."""
        gradients, metrics = self.learner.gradients(batch, step)
        parameters = self.learner.parameters
        for name in self.learner.unit_rows:
            rows, gradient = parameters[name], gradients[name]
            gradient -= (gradient * rows).sum(dim=1, keepdim=True) * rows
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP_NORM)
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
