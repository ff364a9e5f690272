"""Temporal sparse autoencoder (T-SAE): Bhalla et al. 2025, arXiv 2511.05541, brought from text to speech.

A Matryoshka dictionary of two groups. The first, high-level one is also trained to stay the same over time: its code of
a frame should resemble that of the next frame more than those of other clips and times (a contrastive loss).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.architectures.matryoshka import Matryoshka, MatryoshkaLearner
from otoscope.dictionaries.registry import trainable
from otoscope.dictionaries.training.learner import Batch, TrainingPlan
from otoscope.errors import InputError

PAIRS = 1024
"""Pairs that are told apart together; larger batches are split, since the cost grows with the square."""
_TINY = 1e-8


@trainable
@dataclass(frozen=True)
class Temporal(Matryoshka):
    """A temporal sparse autoencoder to be trained. Both frames of a pair are rebuilt (the authors rebuild one)."""

    groups: tuple[float, ...] = (0.2, 0.8)
    """Share of the features in each group; the first group holds the high-level features."""
    contrast: float = 0.1
    """Weight of the contrastive loss beside the reconstruction loss; 0 switches it off."""
    temperature: float = 0.1
    """What cosines are divided by before they compete; 1, as in the paper, has little effect at this weight."""

    kind: ClassVar[str] = "temporal"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.contrast < 0 or self.temperature <= 0:
            raise InputError(
                "contrast must not be negative and temperature must be positive, "
                f"got {self.contrast} and {self.temperature}."
            )

    @property
    def segment(self) -> int:
        """A frame and the next one."""
        return 2

    def learner(self, plan: TrainingPlan) -> TemporalLearner:
        """Return a fresh learner for one run."""
        return TemporalLearner(self, plan)


class TemporalLearner(MatryoshkaLearner):
    """The training state of one temporal dictionary."""

    spec: Temporal

    def gradients(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gradient of every parameter on the pairs that lie inside a clip, and the metrics.

        Raises:
            InputError: the batch is not made of pairs.
        """
        if batch.segment != 2:
            raise InputError(f"A temporal dictionary learns from pairs of frames, got segments of {batch.segment}.")
        if batch.inside is not None:
            whole = batch.inside.view(-1, 2).all(dim=1).repeat_interleave(2)
            batch = Batch(batch.x[whole], batch.y[whole], 2)
        return super().gradients(batch, step)

    def further_gradients(
        self, gradients: dict[str, Tensor], batch: Batch, values: Tensor, indices: Tensor, x: Tensor, step: int
    ) -> Tensor:
        """Add the gradients of the contrastive loss; return it, weighted."""
        if self.spec.contrast == 0:
            return x.new_zeros(())
        n_high = self.spec.edges[1]
        high = (indices < n_high) & (values > 0)
        pairs = len(x) // 2
        loss, by_value = x.new_zeros(()), torch.zeros_like(values)
        for rows in torch.arange(len(x), device=x.device).view(-1, 2).tensor_split(-(-pairs // PAIRS)):
            where = torch.where(high[rows], indices[rows], 0).long()
            strengths = torch.where(high[rows], values[rows], 0)
            codes = x.new_zeros(*rows.shape, n_high).scatter_add_(2, where, strengths)
            weight = self.spec.contrast * len(rows) / pairs
            part, by_code = contrast(codes[:, 0], codes[:, 1], self.spec.temperature)
            loss += weight * part
            by_value[rows] = weight * by_code.gather(2, where)
        for name, gradient in self.through_values(by_value * high, indices, x).items():
            gradients[name] += gradient
        return loss


def contrast(a: Tensor, b: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return how badly `a[i]` `[p, n]` finds `b[i]` among all of `b` and the reverse, and the gradient `[p, 2, n]`.

    The loss is the mean cross-entropy of both searches, by cosines over `temperature` (InfoNCE).
    """
    lengths = [rows.norm(dim=1, keepdim=True).clamp_min(_TINY) for rows in (a, b)]
    unit_a, unit_b = a / lengths[0], b / lengths[1]
    logits = unit_a @ unit_b.T / temperature
    forth, back = logits.log_softmax(dim=1), logits.log_softmax(dim=0)
    loss = -(forth.diagonal() + back.diagonal()).mean() / 2
    by_logits = (forth.exp() + back.exp()) / 2
    by_logits.diagonal().sub_(1)
    by_logits /= len(a) * temperature
    sides = []
    for unit, length, by_unit in zip(
        (unit_a, unit_b), lengths, (by_logits @ unit_b, by_logits.T @ unit_a), strict=True
    ):
        sides.append((by_unit - unit * (unit * by_unit).sum(dim=1, keepdim=True)) / length)
    return loss, torch.stack(sides, dim=1)
