"""Random decoders with a trained encoder: Korznikov et al. 2026, "Sanity Checks for SAEs" (arXiv 2602.14111).

What a dictionary scores above these, it owes to the directions that it learnt. Both are TopK autoencoders (AuxK
included) but for the decoder, so that they compare with TopK at the same size and sparsity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.architectures.topk import TopK, TopKLearner
from otoscope.dictionaries.registry import trainable
from otoscope.dictionaries.training.learner import Batch, TrainingPlan
from otoscope.errors import InputError

_TINY = 1e-12


@trainable
@dataclass(frozen=True)
class FrozenDecoder(TopK):
    """A TopK autoencoder whose decoder stays at its random start; encoder and biases learn."""

    kind: ClassVar[str] = "frozen_decoder"

    def learner(self, plan: TrainingPlan) -> FrozenDecoderLearner:
        """Return a fresh learner for one run."""
        return FrozenDecoderLearner(self, plan)


@trainable
@dataclass(frozen=True)
class SoftFrozenDecoder(TopK):
    """A TopK autoencoder whose decoder rows learn, but never leave the neighbourhood of their random start."""

    cosine: float = 0.8
    """Least cosine between a decoder row and where it started."""

    kind: ClassVar[str] = "soft_frozen"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.cosine <= 1:
            raise InputError(f"cosine must be between 0 and 1, got {self.cosine}.")

    def learner(self, plan: TrainingPlan) -> SoftFrozenLearner:
        """Return a fresh learner for one run."""
        return SoftFrozenLearner(self, plan)


class FrozenDecoderLearner(TopKLearner):
    """The training state of a dictionary with a frozen decoder."""

    unit_rows = ()  # rows of length 1 stay what they are; dividing by their length again would move the last bit

    def gradients(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gradient of every parameter, 0 for the decoder."""
        gradients, metrics = super().gradients(batch, step)
        gradients["decoder"].zero_()
        return gradients, metrics


class SoftFrozenLearner(TopKLearner):
    """The training state of a dictionary whose decoder rows stay within a cone around their start."""

    spec: SoftFrozenDecoder

    def __init__(self, spec: SoftFrozenDecoder, plan: TrainingPlan) -> None:
        super().__init__(spec, plan)
        self.state["start"] = self.parameters["decoder"].clone()

    @torch.no_grad()
    def after_step(self, batch: Batch, step: int) -> tuple[str, ...]:
        """Bring decoder rows that left the cone around their start back to its surface."""
        rows, start, cosine = self.parameters["decoder"], self.state["start"], self.spec.cosine
        along = (rows * start).sum(dim=1, keepdim=True)
        across = torch.nn.functional.normalize(rows - along * start, dim=1, eps=_TINY)
        surface = cosine * start + (1 - cosine**2) ** 0.5 * across
        rows.copy_(torch.where(along < cosine, surface, rows))
        return super().after_step(batch, step)
