"""The training step of every dictionary whose code is sparse while it learns: TopK, BatchTopK and their relatives.

Encoding is a dense product, block by block; everything after it touches active entries only. Features that have been
silent for long learn from what the others left over (AuxK, Gao et al. 2024, arXiv 2406.04093, appendix A.2).
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.dictionaries.kernels import encode_top_k, feature_sums, gather_dot, scatter_outer, sparse_decode
from otoscope.dictionaries.training.auxiliary import ROOMY, Rows, rebuild_by
from otoscope.dictionaries.training.learner import Batch, Learner, Scaling, Spec, TrainingPlan
from otoscope.errors import InputError
from otoscope.models.networks.arithmetic import multiplies

WORTH_A_SHORTLIST = 2**20
"""Weights of the encoder (`n · d`) from which candidates are found in bfloat16 where the CPU multiplies it."""
BY_FEATURE = ("encoder", "encoder_bias", "decoder")
"""Parameters with one row for each feature."""
_TINY = 1e-12


@dataclass(frozen=True)
class SparseSpec(Spec):
    """Settings of every architecture that is trained by `SparseLearner`."""

    k: int = 32
    """Features active in each frame."""
    aux_coefficient: float = 1 / 32
    """Weight of the auxiliary loss beside the reconstruction loss; 0 switches it off."""
    k_aux: int | None = None
    """Silent features that rebuild the left-over of a frame; None: half the width of the site."""
    dead_after_frames: int | None = None
    """A feature counts as dead after this many frames in silence; None: 10 million, or a twentieth of a short run."""

    def __post_init__(self) -> None:
        if self.n_features < 1:
            raise InputError(f"n_features must be at least 1, got {self.n_features}.")
        if not 1 <= self.k <= self.n_features:
            raise InputError(f"k must be between 1 and n_features = {self.n_features}, got {self.k}.")


class SparseLearner(Learner):
    """The training state of a dictionary with a sparse code, on centred and scaled activations.

    A subclass says which entries are active (`select`) and what dictionary comes out; it may add terms to the loss
    (`further_gradients`). Values are never negative; entries of value 0 are padding and carry no gradient.
    """

    unit_rows: tuple[str, ...] = ("decoder",)
    centred = True
    """Whether the bias of the output is subtracted from the input (not in transcoders)."""

    def __init__(self, spec: SparseSpec, plan: TrainingPlan) -> None:
        self.spec, self.plan = spec, plan
        self.n_features = spec.n_features
        self.spare = {}
        n, d_in, d_out = spec.n_features, plan.d_in, plan.width_out
        rows = torch.nn.functional.normalize(torch.randn(n, d_in, generator=plan.generator()), dim=1).to(plan.device)
        decoder = rows.clone()
        if d_in != d_out:
            drawn = torch.randn(n, d_out, generator=plan.generator())
            decoder = torch.nn.functional.normalize(drawn, dim=1).to(plan.device)
        self.parameters = {
            "encoder": rows,
            "encoder_bias": rows.new_zeros(n),
            "decoder": decoder,
            "decoder_bias": rows.new_zeros(d_out) if plan.start is None else plan.start.to(rows).clone(),
        }
        self.state = {"silent_frames": torch.zeros(n, dtype=torch.int64, device=plan.device)}
        self.k_aux = min(spec.k_aux or max(d_out // 2, 1), n)
        default = min(10_000_000, max(plan.total_frames // 20, 1))
        self.dead_after = default if spec.dead_after_frames is None else spec.dead_after_frames
        pays = plan.device.type == "cpu" and n * d_in >= WORTH_A_SHORTLIST and multiplies(torch.bfloat16)
        self.shortlist = pays if plan.dtype is None else plan.dtype == torch.bfloat16

    @abstractmethod
    def select(self, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the active entries of (centred) frames `[t, d_in]`: values ≥ 0 and int32 indices, `[t, k]`."""

    @torch.no_grad()
    def gradients(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gradient of every parameter, and the metrics of this batch."""
        x = batch.x - self.parameters["decoder_bias"] if self.centred else batch.x
        variance = total_variance(batch.y)
        values, indices = self.select(x, step)
        gradients, residual, loss = self.rebuild(batch, variance, values, indices, x)
        error = sum_of_squares(residual)
        metrics = self._count_silence(values, indices, len(x))
        dead = self.state["silent_frames"] >= self.dead_after
        auxiliary = self._add_auxiliary(gradients, residual, error, x, dead)
        further = self.further_gradients(gradients, batch, values, indices, x, step)
        return gradients, {
            "loss": loss + auxiliary + further,
            "fvu": error / variance,
            "aux": auxiliary,
            "dead_share": dead.float().mean(),
            **metrics,
        }

    def rebuild(
        self, batch: Batch, variance: Tensor, values: Tensor, indices: Tensor, x: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return the gradients of the reconstruction loss, what the code leaves over `[t, d_out]`, and the loss (0-d).

        The loss is the fraction of variance unexplained, unless an architecture defines another one.
        """
        residual = batch.y - self.dense_part(batch) - self.decoded(values, indices)
        by_output = residual * (-2 / variance)
        gradients = self.through_code(by_output, values, indices, x)
        self.through_dense_part(gradients, by_output, batch)
        return gradients, residual, sum_of_squares(residual) / variance

    def decoded(self, values: Tensor, indices: Tensor) -> Tensor:
        """Return what a code adds to the reconstruction, `[t, d_out]`; `through_code` is its way back."""
        return sparse_decode(values, indices, self.parameters["decoder"])

    def dense_part(self, batch: Batch) -> Tensor:
        """Return what is rebuilt without any feature: `[d_out]`, or `[t, d_out]` where it depends on the frame."""
        return self.parameters["decoder_bias"]

    def through_dense_part(self, gradients: dict[str, Tensor], by_output: Tensor, batch: Batch) -> None:
        """Carry a gradient `[t, d_out]` at the reconstruction back to the parameters of `dense_part`, in place."""
        gradients["decoder_bias"] += by_output.sum(dim=0)

    def further_gradients(
        self,
        gradients: dict[str, Tensor],
        batch: Batch,
        values: Tensor,
        indices: Tensor,
        x: Tensor,
        step: int,
    ) -> Tensor:
        """Add the gradients of further terms of the loss in place; return their sum (0-d)."""
        return x.new_zeros(())

    def through_code(self, by_output: Tensor, values: Tensor, indices: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Carry a gradient `[t, d_out]` at a sparse reconstruction back to all parameters behind it."""
        by_value = gather_dot(by_output, indices, self.parameters["decoder"]) * (values > 0)
        gradients = self.through_values(by_value, indices, x)
        spare = self.spare.pop("decoder", None)
        gradients["decoder"] = scatter_outer(values, indices, by_output, self.n_features, out=spare)
        return gradients

    def through_values(self, by_value: Tensor, indices: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Carry a gradient `[t, k]` at the values of a code back to the encoder and to what it subtracts."""
        n = self.n_features
        by_bias = feature_sums(by_value, indices, n)
        bias = self.parameters["decoder_bias"]
        return {
            "encoder": scatter_outer(by_value, indices, x, n, out=self.spare.pop("encoder", None)),
            "encoder_bias": by_bias,
            "decoder_bias": -(by_bias @ self.parameters["encoder"]) if self.centred else torch.zeros_like(bias),
        }

    def _add_auxiliary(
        self, gradients: dict[str, Tensor], residual: Tensor, error: Tensor, x: Tensor, dead: Tensor
    ) -> Tensor:
        """Let the strongest dead features rebuild the residual (a constant target); return the weighted loss."""
        dead_rows = dead.nonzero().flatten()
        if self.spec.aux_coefficient == 0 or len(dead_rows) == 0:
            return error.new_zeros(())
        k = min(self.k_aux, len(dead_rows))
        weight = self.spec.aux_coefficient * min(len(dead_rows) / self.k_aux, 1.0) / error.clamp_min(_TINY)
        plain = type(self).through_code is SparseLearner.through_code
        if plain and len(dead_rows) <= ROOMY * k:
            rows = Rows(*(self.parameters[name][dead_rows] for name in BY_FEATURE))
            loss, found = rebuild_by(rows, x, residual, k)
            extra = {name: getattr(found, name) * weight for name in BY_FEATURE}
            if self.centred:
                extra["decoder_bias"] = -(extra["encoder_bias"] @ rows.encoder)
        else:
            loss, extra = self._with_features(dead_rows)._rebuild_sparsely(x, residual, k, weight)
        for name, gradient in extra.items():
            if name in BY_FEATURE:
                gradients[name].index_add_(0, dead_rows, gradient)
            else:
                gradients[name] += gradient
        return weight * loss

    def _rebuild_sparsely(self, x: Tensor, target: Tensor, k: int, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return how far the `k` strongest features of each frame miss a constant target, and weighted gradients."""
        values, indices = encode_top_k(x, self.parameters["encoder"], self.parameters["encoder_bias"], k)
        miss = self.decoded(values, indices) - target
        return sum_of_squares(miss), self.through_code(miss * (2 * weight), values, indices, x)

    def _with_features(self, features: Tensor) -> SparseLearner:
        """Return a learner of some of the features only, which shares nothing that is written to."""
        part = copy.copy(self)
        part.parameters = {
            name: parameter[features] if name in BY_FEATURE else parameter
            for name, parameter in self.parameters.items()
        }
        part.n_features, part.spare = len(features), {}
        return part

    def _count_silence(self, values: Tensor, indices: Tensor, frames: int) -> dict[str, Tensor]:
        fired = feature_sums(values, indices, self.spec.n_features) > 0  # values are never negative
        self.state["silent_frames"].add_(frames).masked_fill_(fired, 0)
        return {"l0": (values > 0).sum() / frames}


def folded(
    parameters: dict[str, Tensor], scaling: Scaling, *, centred: bool = True
) -> tuple[dict[str, Tensor], Tensor]:
    """Return `encoder`, `encoder_bias`, `decoder`, `decoder_bias` for raw activations, and the unit of the values.

    What was trained on `(x − mean) · scale` is rewritten so that it takes and gives raw activations. Where one factor
    scales all of the output, values are given in raw units, so that decoder rows keep their length; `unit` (0-d) is
    what a trained value, a threshold say, is multiplied by to become a raw one. Where factors differ between the
    sites of an input, decoder rows are scaled instead and the unit is 1.
    """
    weights = {name: tensor.detach().cpu().double() for name, tensor in parameters.items()}
    factors = scaling.scale_out
    uniform = bool((factors == factors[0]).all())
    unit = 1 / factors[0] if uniform else torch.ones((), dtype=torch.float64)
    encoder, bias = weights["encoder"] * scaling.scale_in, weights["encoder_bias"].clone()
    decoder_bias = weights["decoder_bias"] / factors + scaling.mean_out
    if not centred:
        bias = bias - encoder @ scaling.mean_in
    result = {
        "encoder": encoder * unit,
        "encoder_bias": bias * unit,
        "decoder": weights["decoder"] / factors / unit,
        "decoder_bias": decoder_bias,
    }
    return {name: tensor.float() for name, tensor in result.items()}, unit


def sum_of_squares(x: Tensor) -> Tensor:
    """Return the sum of all squared entries, 0-d."""
    norm: Tensor = torch.linalg.vector_norm(x)
    return norm.square()


def total_variance(y: Tensor) -> Tensor:
    """Return the sum of squared distances of the rows of `y` `[t, d]` from their mean, 0-d, never 0."""
    return (sum_of_squares(y) - y.sum(dim=0).square().sum() / len(y)).clamp_min(_TINY)
