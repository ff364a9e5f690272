"""Adam with what dictionaries need around it: one call is one whole training step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from otoscope.dictionaries.kernels.dispatch import can_compile
from otoscope.dictionaries.training.learner import Batch, Learner

if TYPE_CHECKING:
    from otoscope.dictionaries.kernels.adam import Rates

CLIP_NORM = 1.0
_TINY = 1e-12


class Optimiser:
    """Adam (Kingma and Ba 2015) or RAdam (Liu et al. 2020) on a learner's parameters, unit rows kept.

    A gradient longer than `clip_norm` is shortened to it; None: never. float32 parameters on the CPU are updated by a
    compiled kernel, all others by torch's own optimisers; both work on `state`, the moments of each parameter.
    """

    def __init__(
        self,
        learner: Learner,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        clip_norm: float | None = CLIP_NORM,
        kind: Literal["adam", "radam"] = "adam",
    ) -> None:
        self.learner, self.clip_norm = learner, clip_norm
        self.betas, self.eps, self.kind = betas, eps, kind
        self.state: dict[str, dict[str, Tensor]] = {name: {} for name in learner.parameters}

    def step(self, batch: Batch, step: int, lr: float) -> dict[str, Tensor]:
        """Learn from one batch; return its metrics."""
        gradients, metrics = self.learner.gradients(batch, step)
        parameters = self.learner.parameters
        flat = all(parameter.is_contiguous() for parameter in parameters.values())
        if flat and can_compile(*parameters.values(), *gradients.values()):
            self._update_compiled(gradients, lr)
        else:
            self._update(gradients, lr)
        self.learner.spare = gradients
        self._forget(self.learner.after_step(batch, step))
        return metrics

    def _update(self, gradients: dict[str, Tensor], lr: float) -> None:
        """Change all parameters by their gradients, in plain torch."""
        parameters = self.learner.parameters
        for name in self.learner.unit_rows:
            rows, gradient = parameters[name], gradients[name]
            gradient -= (gradient * rows).sum(dim=1, keepdim=True) * rows
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters.values(), self.clip_norm)
        for group in self._torch.param_groups:
            group["lr"] = lr
        self._torch.step()
        for name in self.learner.unit_rows:
            rows = parameters[name]
            rows /= rows.norm(dim=1, keepdim=True).clamp_min(_TINY)

    @cached_property
    def _torch(self) -> torch.optim.Optimizer:
        """Torch's optimiser on our state. Made when it is needed: making one loads torch's compiler, for seconds."""
        parameters = list(self.learner.parameters.values())
        made: torch.optim.Optimizer
        if self.kind == "radam":
            made = torch.optim.RAdam(parameters, betas=self.betas, eps=self.eps)
        else:
            made = torch.optim.Adam(parameters, betas=self.betas, eps=self.eps, fused=True)
        for name, parameter in self.learner.parameters.items():
            made.state[parameter] = self.state[name]
        return made

    def _update_compiled(self, gradients: dict[str, Tensor], lr: float) -> None:
        """Do what `_update` does in two passes over memory."""
        from otoscope.dictionaries.kernels.adam import gradient_squares, update_rows

        unit = {name: name in self.learner.unit_rows for name in self.learner.parameters}
        rows = {name: _as_rows(parameter) for name, parameter in self.learner.parameters.items()}
        by_row = {name: _as_rows(gradients[name]) for name in rows}
        found = {name: gradient_squares(by_row[name], rows[name], unit=unit[name]) for name in rows}
        scale = 1.0
        if self.clip_norm is not None:
            norm = sum(float(squares.double().sum()) for squares, _ in found.values()) ** 0.5
            scale = min(self.clip_norm / (norm + 1e-6), 1.0)
        for name, parameter in self.learner.parameters.items():
            state = self.state[name]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
            moments = _as_rows(state["exp_avg"]), _as_rows(state["exp_avg_sq"])
            rates = self._rates(int(state["step"]), lr)
            update_rows(rows[name], by_row[name], *moments, found[name][1], scale, rates, unit=unit[name])

    def _rates(self, count: int, lr: float) -> Rates:
        """Return the sizes of update number `count`, from 1, with the moments' bias towards 0 corrected."""
        from otoscope.dictionaries.kernels.adam import Rates

        decay, decay_square = self.betas
        left, left_square = 1 - decay**count, 1 - decay_square**count
        if self.kind == "adam":
            return Rates(decay, decay_square, lr * left_square**0.5 / left, self.eps * left_square**0.5)
        longest = 2 / (1 - decay_square) - 1  # rho of Liu et al. 2020, algorithm 2
        length = longest - 2 * count * decay_square**count / left_square
        if length <= 5:
            return Rates(decay, decay_square, lr / left, 0.0, plain=True)
        rectified = ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5
        return Rates(decay, decay_square, lr * rectified * left_square**0.5 / left, self.eps)

    def _forget(self, names: tuple[str, ...]) -> None:
        """Clear the moments of rows that the learner rewrote."""
        rows = self.learner.rewritten_rows
        if rows is None:
            return
        for name in names:
            for value in self.state[name].values():
                if value.ndim:
                    value[rows] = 0

    def tensors(self) -> dict[str, Tensor]:
        """Return the moments of all parameters, by name, for a checkpoint."""
        return {f"{name}.{moment}": value for name, found in self.state.items() for moment, value in found.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up the moments that `tensors()` returned."""
        for name, parameter in self.learner.parameters.items():
            prefix, found = f"{name}.", self.state[name]
            found.clear()
            found |= {
                key.removeprefix(prefix): value.to(parameter.device)
                for key, value in tensors.items()
                if key.startswith(prefix)
            }


def _as_rows(tensor: Tensor) -> Tensor:
    """Return a contiguous matrix `[r, d]` of the same numbers; a vector is one row."""
    return tensor.contiguous().reshape(len(tensor) if tensor.ndim > 1 else 1, -1)
