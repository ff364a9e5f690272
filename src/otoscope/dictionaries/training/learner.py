"""What an architecture brings to the training loop: parameters, gradients, constraints, and the finished dictionary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from otoscope.dictionaries.dictionary import Dictionary


@dataclass(frozen=True)
class TrainingPlan:
    """What a learner knows about its run.

    Attributes:
        d_in: width of the activations.
        steps: optimiser steps of the whole run.
        total_frames: frames that the whole run will show.
        seed: what initial weights are drawn from.
        device: where the tensors live.
    """

    d_in: int
    steps: int
    total_frames: int
    seed: int
    device: torch.device


class Learner(ABC):
    """The state of one dictionary in training.

    Attributes:
        parameters: trained by the optimiser, changed in place.
        state: everything else that a resumed run needs.
    """

    parameters: dict[str, Tensor]
    state: dict[str, Tensor]

    @abstractmethod
    def gradients(self, x: Tensor, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gradient of every parameter on the batch `x` `[t, d]`, and scalar metrics."""

    def project(self, gradients: dict[str, Tensor]) -> None:  # noqa: B027 - most architectures need none
        """Change the gradients in place before the step, if the architecture is constrained."""

    def constrain(self) -> None:  # noqa: B027
        """Change the parameters in place after the step, if the architecture is constrained."""

    @abstractmethod
    def dictionary(self, mean: Tensor, scale: float, *, site: str, name: str) -> Dictionary:
        """Return the dictionary for raw activations, given that `x` was `(raw − mean) · scale`."""


class Spec(Protocol):
    """A dictionary to be trained: the frozen settings of an architecture."""

    kind: ClassVar[str]

    @property
    def n_features(self) -> int:
        """Size of the dictionary."""

    def settings(self) -> dict[str, Any]:
        """Return all settings, for the record."""

    def learner(self, plan: TrainingPlan) -> Learner:
        """Return a fresh learner."""
