"""Gated sparse autoencoder: Rajamanoharan et al. 2024, "Improving Dictionary Learning with Gated SAEs" (2404.16014).

One matrix says both whether a feature is active (its gate) and how strongly (its magnitude), with a scale and a bias of
its own for the second. The L1 penalty acts on the gate only, so that magnitudes do not shrink.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.autoencoder import Autoencoder
from otoscope.dictionaries.registry import register, trainable
from otoscope.dictionaries.thresholded import active_entries
from otoscope.dictionaries.training.dense_step import WEIGHTS, DenseLearner, DenseSpec, Kept, Sums
from otoscope.dictionaries.training.learner import Scaling, TrainingPlan
from otoscope.dictionaries.training.sparse_step import folded, sum_of_squares
from otoscope.errors import InputError
from otoscope.models.networks.arithmetic import product


@trainable
@dataclass(frozen=True)
class Gated(DenseSpec):
    """A Gated sparse autoencoder to be trained; frames have mean squared length d, which sets the units."""

    l1: float = 5.0
    """Weight of the sum of a frame's open gates (their positive pre-activations) beside its squared error."""

    kind: ClassVar[str] = "gated"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.l1 < 0:
            raise InputError(f"l1 must be at least 0, got {self.l1}.")

    def learner(self, plan: TrainingPlan) -> GatedLearner:
        """Return a fresh learner for one run."""
        return GatedLearner(self, plan)


@register
class GatedDictionary(Autoencoder):
    """A trained Gated dictionary: equations 4 to 7 of the paper.

    Attributes:
        encoder_bias: `[n]`, the bias of the gates.
        magnitude_scale: `[n]`, logarithm of what a product of encoder and input is multiplied by in the magnitude.
        magnitude_bias: `[n]`, what is then added.
    """

    kind: ClassVar[str] = "gated"

    def __init__(self, *, magnitude_scale: Tensor, magnitude_bias: Tensor, name: str = "gated", **weights: Any) -> None:
        super().__init__(name=name, **weights)
        for what, tensor in (("magnitude_scale", magnitude_scale), ("magnitude_bias", magnitude_bias)):
            if tensor.shape != self.encoder_bias.shape:
                raise InputError(f"{what} must have one entry for each of {self.n_features} features.")
        self.magnitude_scale = magnitude_scale.detach().float().contiguous()
        self.magnitude_bias = magnitude_bias.detach().float().contiguous()

    def _select(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return active_entries(x, self._values, self.encoder_bias.new_zeros(()))

    def _values(self, x: Tensor) -> Tensor:
        raw = product(x, self.encoder)
        return gated(raw, self.encoder_bias, self.magnitude_scale.exp(), self.magnitude_bias)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights under SAELens' names."""
        tensors = super().tensors()
        gate = tensors.pop("b_enc")
        return {**tensors, "b_gate": gate, "r_mag": self.magnitude_scale, "b_mag": self.magnitude_bias}

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> GatedDictionary:
        """Build the dictionary from SAELens' keys."""
        return cls(
            encoder=tensors["W_enc"].T,
            encoder_bias=tensors["b_gate"],
            decoder=tensors["W_dec"],
            decoder_bias=tensors["b_dec"],
            magnitude_scale=tensors["r_mag"],
            magnitude_bias=tensors["b_mag"],
            centred=bool(config.get("apply_b_dec_to_input", True)),
            normalisation=config.get("otoscope_normalisation", "none"),
            name=name,
            site=site,
        )


def gated(raw: Tensor, gate_bias: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return the magnitudes `relu(raw · scale + bias)` `[c, n]` where `raw + gate_bias` is positive, 0 elsewhere."""
    return torch.addcmul(bias, raw, scale).relu_().masked_fill_(raw <= -gate_bias, 0)


class GatedLearner(DenseLearner):
    """The training state of one Gated dictionary; `encoder_bias` is the bias of the gates."""

    spec: Gated

    def __init__(self, spec: Gated, plan: TrainingPlan) -> None:
        super().__init__(spec, plan)
        zeros = self.parameters["encoder_bias"]
        self.parameters |= {"magnitude_scale": zeros.clone(), "magnitude_bias": zeros.clone()}
        self.fresh = {**self.fresh, "magnitude_scale": 0.0, "magnitude_bias": 0.0}

    def offset(self) -> Tensor:
        """Return what is added to the products of encoder and input, `[n]`, before gates and magnitudes part."""
        return -(self.parameters["encoder"] @ self.parameters["decoder_bias"])

    def activate(self, pre: Tensor, sums: Sums) -> tuple[Tensor, Kept]:
        """Return the magnitudes behind open gates."""
        p = self.parameters
        return gated(pre, p["encoder_bias"], p["magnitude_scale"].exp(), p["magnitude_bias"]), (pre,)

    def slopes(self, step: int) -> Tensor:
        """Return half the weight of each open gate."""
        bias = self.parameters["encoder_bias"]
        return torch.full_like(bias, self.sparsity_weight(step) * self.spec.l1 / 2)

    def _chunk(
        self, x: Tensor, y: Tensor, offset: Tensor, slopes: Tensor | None, sums: Sums
    ) -> list[tuple[Tensor, ...]]:
        """Add what one chunk of frames brings, by way of magnitudes (loss) and of gates (auxiliary loss)."""
        p, gradients = self.parameters, sums.gradients
        scale, columns = p["magnitude_scale"].exp(), p["decoder"].T
        code, (raw,) = self.activate(product(x, p["encoder"], offset), sums)
        gates = (raw + p["encoder_bias"]).relu_()
        sums.values += code.sum(dim=0)
        sums.active += code.sign().sum()
        sums.add("gates", gates.sum())
        miss = product(code, columns, p["decoder_bias"]).sub_(y)
        through_gates = product(gates, columns, p["decoder_bias"]).sub_(y)
        sums.error += sum_of_squares(miss)
        sums.add("aux", sum_of_squares(through_gates))
        by_magnitude = self.back(product(miss, p["decoder"]), code, (), sums)
        by_gate = self.back(product(through_gates, p["decoder"], slopes), gates, (), sums)
        gradients["decoder"].addmm_(code.T, miss)  # the auxiliary loss takes the decoder and its bias as constants
        gradients["decoder_bias"] += miss.sum(dim=0)
        gradients["magnitude_scale"] += (by_magnitude * raw).sum(dim=0) * scale
        gradients["magnitude_bias"] += by_magnitude.sum(dim=0)
        gradients["encoder_bias"] += by_gate.sum(dim=0)
        by_raw = torch.addcmul(by_gate, by_magnitude, scale)
        gradients["encoder"].addmm_(by_raw.T, x)
        return []

    def by_input(self, sums: Sums) -> Tensor:
        """Return the gradient `[n]` at the sum of all products of encoder and input."""
        scale = self.parameters["magnitude_scale"].exp()
        return sums.gradients["encoder_bias"] + scale * sums.gradients["magnitude_bias"]

    def finish(self, sums: Sums, frames: int, step: int) -> dict[str, Tensor]:
        """Return the penalty on open gates and the auxiliary loss."""
        return {"l1": self.sparsity_weight(step) * self.spec.l1 * sums.more["gates"], "aux": sums.more["aux"]}

    def dictionary(self, scaling: Scaling, *, sites: tuple[str, ...], name: str) -> GatedDictionary:
        """Return the dictionary for raw activations."""
        weights, unit = folded({key: self.parameters[key] for key in WEIGHTS}, scaling)
        return GatedDictionary(
            **weights,
            magnitude_scale=self.parameters["magnitude_scale"].cpu(),
            magnitude_bias=(self.parameters["magnitude_bias"].cpu().double() * unit).float(),
            site=sites[0],
            sites=sites,
            name=name,
        )
