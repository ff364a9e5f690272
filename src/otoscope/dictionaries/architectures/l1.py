"""L1 sparse autoencoders: ReLU codes, kept sparse by their sum.

Untied: Bricken et al. 2023, "Towards Monosemanticity", with the update of April 2024 (Conerly et al. 2024, "Circuits
Updates"). Tied: the encoder is the transposed decoder, as in whisper_interpretability (2023) and FREUD (2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.registry import trainable
from otoscope.dictionaries.thresholded import ReluDictionary
from otoscope.dictionaries.training.dense_step import DenseLearner, DenseSpec, Kept, Sums
from otoscope.dictionaries.training.learner import Batch, Scaling, TrainingPlan
from otoscope.dictionaries.training.sparse_step import folded
from otoscope.errors import InputError


@trainable
@dataclass(frozen=True)
class L1(DenseSpec):
    """An L1 sparse autoencoder to be trained, with the published defaults."""

    l1: float = 5.0
    """Untied: weight of the sum of a frame's values beside its squared error; frames have mean squared length d."""
    unit_decoder: bool = True
    """Untied: keep decoder rows at length 1; False: weight each value by the length of its row (April 2024)."""
    tied: bool = False
    """Use one matrix for encoder and decoder, started orthogonal, and no bias of the output."""
    alpha: float = 1e4
    """Tied: weight of the mean squared error (over units) beside the sum of a frame's values."""

    kind: ClassVar[str] = "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.l1 < 0 or self.alpha <= 0:
            raise InputError(f"l1 must be at least 0 and alpha above 0, got {self.l1} and {self.alpha}.")
        if self.tied and not self.unit_decoder:
            raise InputError("A tied L1 autoencoder keeps its decoder rows at length 1; leave unit_decoder on.")

    def learner(self, plan: TrainingPlan) -> L1Learner:
        """Return a fresh learner for one run."""
        return TiedL1Learner(self, plan) if self.tied else L1Learner(self, plan)


class L1Learner(DenseLearner):
    """The training state of one L1 dictionary."""

    spec: L1

    def __init__(self, spec: L1, plan: TrainingPlan) -> None:
        super().__init__(spec, plan)
        if not spec.unit_decoder:
            self.unit_rows = ()

    def penalty(self) -> float:
        """Return the weight of a value of 1 beside a squared error of 1."""
        return self.spec.l1

    def activate(self, pre: Tensor, sums: Sums) -> tuple[Tensor, Kept]:
        """Return the positive pre-activations."""
        return pre.relu_(), ()

    def slopes(self, step: int) -> Tensor:
        """Return half the weight of each value, that of the length of its decoder row included."""
        return self._lengths() * (self.sparsity_weight(step) * self.penalty() / 2)

    def finish(self, sums: Sums, frames: int, step: int) -> dict[str, Tensor]:
        """Return the sparsity term; its gradient by the length of decoder rows where they are free."""
        slopes = self.slopes(step)
        if not self.spec.unit_decoder:
            lengths = self._lengths()
            sums.gradients["decoder"] += (slopes * sums.values / lengths.square())[:, None] * self.parameters["decoder"]
        return {"l1": 2 * (slopes @ sums.values)}

    def _lengths(self) -> Tensor:
        decoder = self.weights["decoder"]
        return decoder.new_ones(len(decoder)) if self.spec.unit_decoder else decoder.norm(dim=1).clamp_min(1e-12)

    def dictionary(self, scaling: Scaling, *, sites: tuple[str, ...], name: str) -> ReluDictionary:
        """Return the dictionary for raw activations; its decoder rows have length 1."""
        weights = dict(self.weights)
        lengths = self._lengths()
        weights["encoder"] = weights["encoder"] * lengths[:, None]
        weights["encoder_bias"] = weights["encoder_bias"] * lengths
        weights["decoder"] = weights["decoder"] / lengths[:, None]
        raw, _ = folded(weights, scaling)
        return ReluDictionary(**raw, site=sites[0], sites=sites, name=name)


class TiedL1Learner(L1Learner):
    """The training state of an L1 dictionary whose encoder is its transposed decoder."""

    centred = False

    def __init__(self, spec: L1, plan: TrainingPlan) -> None:
        super().__init__(spec, plan)
        drawn = torch.nn.init.orthogonal_(torch.empty(plan.d_in, spec.n_features), generator=plan.generator())
        rows = torch.nn.functional.normalize(drawn.T, dim=1).contiguous().to(plan.device)
        self.parameters = {"encoder_bias": rows.new_zeros(spec.n_features), "decoder": rows}
        self._no_bias = rows.new_zeros(plan.d_in)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The parameters, the decoder also as the encoder, and a bias of the output that stays 0."""
        return {**self.parameters, "encoder": self.parameters["decoder"], "decoder_bias": self._no_bias}

    def penalty(self) -> float:
        """Return `d / α`: the published loss divided by the weight of a squared error."""
        return self.plan.d_in / self.spec.alpha

    def gradients(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gradients of the two parameters: what reaches the encoder is added to the decoder's."""
        gradients, metrics = super().gradients(batch, step)
        gradients["decoder"] += gradients.pop("encoder")
        del gradients["decoder_bias"]
        return gradients, metrics
