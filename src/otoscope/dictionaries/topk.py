"""TopK sparse autoencoder: Gao et al. 2024, "Scaling and evaluating sparse autoencoders" (arXiv 2406.04093).

Each frame is rebuilt from its `k` strongest features. Features that have been silent for long learn from what the
others left over (the auxiliary loss "AuxK", appendix A.2 of the paper), so that few of them die.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.kernels import (
    encode_top_k,
    feature_sums,
    gather_dot,
    scatter_outer,
    sparse_decode,
)
from otoscope.dictionaries.registry import register
from otoscope.dictionaries.sparse_code import SparseCode
from otoscope.dictionaries.training.learner import Learner, TrainingPlan
from otoscope.errors import InputError
from otoscope.models.networks.arithmetic import multiplies

WORTH_A_SHORTLIST = 2**20
"""Weights of the encoder (`n · d`) from which candidates are found in bfloat16 where the CPU multiplies it."""


@dataclass(frozen=True)
class TopK:
    """A TopK sparse autoencoder to be trained, with the published defaults."""

    n_features: int
    """Size of the dictionary; 4 to 32 times the width of the site is usual."""
    k: int = 32
    """Features active in each frame."""
    aux_coefficient: float = 1 / 32
    """Weight of the auxiliary loss beside the reconstruction loss; 0 switches it off."""
    k_aux: int | None = None
    """Silent features that rebuild the left-over of a frame; None: half the width of the site."""
    dead_after_frames: int | None = None
    """A feature counts as dead after this many frames in silence; None: 10 million, or a twentieth of a short run."""
    k_start: int | None = None
    """Features active in each frame at the first step, falling to `k`; None: `k` throughout."""
    k_warm_up: float = 0.1
    """Share of the run over which `k_start` falls to `k`."""

    kind: ClassVar[str] = "topk"

    def __post_init__(self) -> None:
        if self.n_features < 1:
            raise InputError(f"n_features must be at least 1, got {self.n_features}.")
        if not 1 <= self.k <= self.n_features:
            raise InputError(f"k must be between 1 and n_features = {self.n_features}, got {self.k}.")
        if self.k_start is not None and not self.k <= self.k_start <= self.n_features:
            raise InputError(f"k_start must be between k = {self.k} and n_features, got {self.k_start}.")

    def settings(self) -> dict[str, Any]:
        """Return all fields, for the record kept with the dictionary."""
        return {"kind": self.kind, **asdict(self)}

    def learner(self, plan: TrainingPlan) -> TopKLearner:
        """Return a fresh learner for one run."""
        return TopKLearner(self, plan)


@register
class TopKDictionary(Dictionary):
    """A trained TopK dictionary: it takes raw activations.

    `encode`: the `k` largest positive entries of `encoder @ (x − decoder_bias) + encoder_bias`.
    `decode`: `Σ value · decoder[index] + decoder_bias`.
    """

    kind: ClassVar[str] = "topk"

    def __init__(
        self,
        *,
        encoder: Tensor,
        encoder_bias: Tensor,
        decoder: Tensor,
        decoder_bias: Tensor,
        k: int,
        site: str,
        name: str = "topk",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        n, d = _check_shapes(encoder, encoder_bias, decoder, decoder_bias)
        if not 1 <= k <= n:
            raise InputError(f"k must be between 1 and the {n} features, got {k}.")
        super().__init__(name=name, site=site, d_in=d, n_features=n, metadata=metadata)
        self.k = k
        self.encoder = encoder.detach().float().contiguous()
        self.encoder_bias = encoder_bias.detach().float().contiguous()
        self.decoder = decoder.detach().float().contiguous()
        self.decoder_bias = decoder_bias.detach().float().contiguous()

    @torch.no_grad()
    def encode(self, x: Tensor) -> SparseCode:
        """Return the `k` strongest features of raw activations `x` `[t, d]`."""
        centred = self._check_width(x).float() - self.decoder_bias
        values, indices = encode_top_k(centred, self.encoder, self.encoder_bias, self.k)
        return SparseCode(values, indices, self.n_features)

    @torch.no_grad()
    def decode(self, code: SparseCode) -> Tensor:
        """Return the activations `[t, d]` that `code` stands for."""
        return sparse_decode(code.values, code.indices, self.decoder) + self.decoder_bias

    def directions(self, features: Sequence[int]) -> Tensor:
        """Return the decoder rows of some features, `[len(features), d]`."""
        return self.decoder[[self._check(index) for index in features]]

    def config(self) -> dict[str, Any]:
        """Return SAELens' keys for a TopK dictionary."""
        return {
            "d_in": self.d_in,
            "d_sae": self.n_features,
            "k": self.k,
            "rescale_acts_by_decoder_norm": True,
            "apply_b_dec_to_input": True,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights under SAELens' names."""
        return {
            "W_enc": self.encoder.T.contiguous(),
            "b_enc": self.encoder_bias,
            "W_dec": self.decoder,
            "b_dec": self.decoder_bias,
        }

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> TopKDictionary:
        """Build the dictionary from SAELens' keys; what the flags change is folded into the weights."""
        encoder, bias = tensors["W_enc"].float().T, tensors["b_enc"].float()
        decoder, decoder_bias = tensors["W_dec"].float(), tensors["b_dec"].float()
        _check_shapes(encoder, bias, decoder, decoder_bias)
        if not config.get("apply_b_dec_to_input", True):
            bias = bias + encoder @ decoder_bias
        if config.get("rescale_acts_by_decoder_norm", False):
            norms = decoder.norm(dim=1)
            norms = torch.where((norms - 1).abs() < 1e-6, 1.0, norms)
            encoder, bias, decoder = encoder * norms[:, None], bias * norms, decoder / norms[:, None]
        return cls(
            encoder=encoder,
            encoder_bias=bias,
            decoder=decoder,
            decoder_bias=decoder_bias,
            k=int(config["k"]),
            site=site,
            name=name,
        )


class TopKLearner(Learner):
    """The training state of one TopK dictionary, on centred and scaled activations."""

    def __init__(self, spec: TopK, plan: TrainingPlan) -> None:
        self.spec, self.plan = spec, plan
        n, d = spec.n_features, plan.d_in
        generator = torch.Generator().manual_seed(plan.seed)
        rows = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=1).to(plan.device)
        self.parameters = {
            "encoder": rows.clone(),
            "encoder_bias": rows.new_zeros(n),
            "decoder": rows,
            "decoder_bias": rows.new_zeros(d),
        }
        self.state = {"silent_frames": torch.zeros(n, dtype=torch.int64, device=plan.device)}
        self.k_aux = min(spec.k_aux or d // 2, n)
        default = min(10_000_000, max(plan.total_frames // 20, 1))
        self.shortlist = plan.device.type == "cpu" and n * d >= WORTH_A_SHORTLIST and multiplies(torch.bfloat16)
        self.dead_after = default if spec.dead_after_frames is None else spec.dead_after_frames

    @torch.no_grad()
    def gradients(self, x: Tensor, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gradient of every parameter on `x` `[t, d]`, and the metrics of this batch."""
        decoder, bias = self.parameters["decoder"], self.parameters["decoder_bias"]
        centred = x - bias
        values, indices = encode_top_k(
            centred,
            self.parameters["encoder"],
            self.parameters["encoder_bias"],
            self.k_at(step),
            shortlist=self.shortlist,
        )
        residual = centred - sparse_decode(values, indices, decoder)
        error = _sum_of_squares(residual)
        variance = (_sum_of_squares(x) - x.sum(dim=0).square().sum() / len(x)).clamp_min(1e-12)
        by_output = residual * (-2 / variance)
        gradients = self._through_code(by_output, values, indices, centred)
        gradients["decoder_bias"] += by_output.sum(dim=0)

        self._count_silence(values, indices, len(x))
        dead = self.state["silent_frames"] >= self.dead_after
        auxiliary = self._add_auxiliary(gradients, residual, error, centred, dead)
        fvu = error / variance
        return gradients, {
            "loss": fvu + auxiliary,
            "fvu": fvu,
            "aux": auxiliary,
            "l0": (values > 0).sum() / len(x),
            "dead_share": dead.float().mean(),
        }

    def _add_auxiliary(
        self, gradients: dict[str, Tensor], residual: Tensor, error: Tensor, centred: Tensor, dead: Tensor
    ) -> Tensor:
        """Let the strongest dead features rebuild the residual (a constant target); return the weighted loss."""
        rows = dead.nonzero().flatten()
        if self.spec.aux_coefficient == 0 or len(rows) == 0:
            return error.new_zeros(())
        k = min(self.k_aux, len(rows))
        values, local = encode_top_k(
            centred, self.parameters["encoder"][rows], self.parameters["encoder_bias"][rows], k
        )
        indices = rows[local.long()].to(torch.int32)
        miss = sparse_decode(values, indices, self.parameters["decoder"]) - residual
        weight = self.spec.aux_coefficient * min(len(rows) / self.k_aux, 1.0) / error.clamp_min(1e-12)
        extra = self._through_code(miss * (2 * weight), values, indices, centred)
        for name, gradient in extra.items():
            gradients[name] += gradient
        return weight * _sum_of_squares(miss)

    def _through_code(self, by_output: Tensor, values: Tensor, indices: Tensor, centred: Tensor) -> dict[str, Tensor]:
        """Carry a gradient `[t, d]` at a sparse reconstruction back to all parameters behind it."""
        n = self.spec.n_features
        by_value = gather_dot(by_output, indices, self.parameters["decoder"]) * (values > 0)
        by_bias = feature_sums(by_value, indices, n)
        return {
            "encoder": scatter_outer(by_value, indices, centred, n),
            "encoder_bias": by_bias,
            "decoder": scatter_outer(values, indices, by_output, n),
            "decoder_bias": -(by_bias @ self.parameters["encoder"]),
        }

    def _count_silence(self, values: Tensor, indices: Tensor, frames: int) -> None:
        fired = feature_sums(values, indices, self.spec.n_features) > 0  # values are never negative
        self.state["silent_frames"].add_(frames).masked_fill_(fired, 0)

    def k_at(self, step: int) -> int:
        """Return the number of active features at `step`."""
        start = self.spec.k_start
        steps = self.spec.k_warm_up * self.plan.steps
        if start is None or step >= steps:
            return self.spec.k
        return round(start + (self.spec.k - start) * step / steps)

    def project(self, gradients: dict[str, Tensor]) -> None:
        """Remove the part of the decoder's gradient that would only change the length of its rows."""
        rows, gradient = self.parameters["decoder"], gradients["decoder"]
        gradient -= (gradient * rows).sum(dim=1, keepdim=True) * rows

    def constrain(self) -> None:
        """Bring the decoder rows back to length 1."""
        rows = self.parameters["decoder"]
        rows /= rows.norm(dim=1, keepdim=True).clamp_min(1e-12)

    def dictionary(self, mean: Tensor, scale: float, *, site: str, name: str) -> TopKDictionary:
        """Return the dictionary for raw activations: what was trained on `(x − mean) · scale`, folded back."""
        weights = {key: tensor.detach().cpu() for key, tensor in self.parameters.items()}
        return TopKDictionary(
            encoder=weights["encoder"],
            encoder_bias=weights["encoder_bias"] / scale,
            decoder=weights["decoder"],
            decoder_bias=(weights["decoder_bias"].double() / scale + mean.double()).float(),
            k=self.spec.k,
            site=site,
            name=name,
        )


def _check_shapes(encoder: Tensor, encoder_bias: Tensor, decoder: Tensor, decoder_bias: Tensor) -> tuple[int, int]:
    """Return the number of features and the width if the weights agree on them."""
    shapes = [list(tensor.shape) for tensor in (encoder, encoder_bias, decoder, decoder_bias)]
    n, d = len(encoder_bias), len(decoder_bias)
    if shapes != [[n, d], [n], [n, d], [d]]:
        raise InputError(f"The weights of a TopK dictionary do not fit together: their shapes are {shapes}.")
    return n, d


def _sum_of_squares(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x)
    return norm.square()
