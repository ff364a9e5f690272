"""TopK sparse autoencoder: Gao et al. 2024, "Scaling and evaluating sparse autoencoders" (arXiv 2406.04093).

Each frame is rebuilt from its `k` strongest features. Features that have been silent for long learn from what the
others left over (the auxiliary loss "AuxK", appendix A.2 of the paper), so that few of them die. Multi-TopK (section
5.3) also rebuilds each frame from its `4 k` strongest features, so that the code works at other sparsities too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.autoencoder import Autoencoder
from otoscope.dictionaries.kernels import encode_top_k
from otoscope.dictionaries.registry import register, trainable
from otoscope.dictionaries.training.learner import Batch, Scaling, TrainingPlan
from otoscope.dictionaries.training.sparse_step import SparseLearner, SparseSpec, folded, total_variance
from otoscope.errors import InputError

WIDER = 4
"""How many times `k` the second reconstruction of Multi-TopK takes."""
WIDER_WEIGHT = 1 / 8
"""Weight of the second reconstruction."""


@trainable
@dataclass(frozen=True)
class TopK(SparseSpec):
    """A TopK sparse autoencoder to be trained, with the published defaults."""

    k_start: int | None = None
    """Features active in each frame at the first step, falling to `k`; None: `k` throughout."""
    k_warm_up: float = 0.1
    """Share of the run over which `k_start` falls to `k`."""
    multi_topk: bool = False
    """Also rebuild each frame from 4 k features, with an eighth of the weight, so that k may be changed afterwards."""

    kind: ClassVar[str] = "topk"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k_start is not None and not self.k <= self.k_start <= self.n_features:
            raise InputError(f"k_start must be between k = {self.k} and n_features, got {self.k_start}.")

    def learner(self, plan: TrainingPlan) -> TopKLearner:
        """Return a fresh learner for one run."""
        return TopKLearner(self, plan)


@register
class TopKDictionary(Autoencoder):
    """A trained TopK dictionary: the `k` largest positive entries are active."""

    kind: ClassVar[str] = "topk"

    def __init__(self, *, k: int, name: str = "topk", **weights: Any) -> None:
        super().__init__(name=name, **weights)
        if not 1 <= k <= self.n_features:
            raise InputError(f"k must be between 1 and the {self.n_features} features, got {k}.")
        self.k = k

    def _select(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return encode_top_k(x, self.encoder, self.encoder_bias, self.k)

    def config(self) -> dict[str, Any]:
        """Return SAELens' keys for a TopK dictionary; it would multiply values by rows that are not of length 1."""
        unit = bool(((self.decoder.norm(dim=1) - 1).abs() < 1e-6).all())
        return {**super().config(), "k": self.k, "rescale_acts_by_decoder_norm": unit}

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> TopKDictionary:
        """Build the dictionary from SAELens' keys; what the flags change is folded into the weights."""
        encoder, bias = tensors["W_enc"].float().T, tensors["b_enc"].float()
        decoder = tensors["W_dec"].float()
        if config.get("rescale_acts_by_decoder_norm", False) and decoder.ndim == 2 and len(bias) == len(decoder):
            norms = decoder.norm(dim=1)
            norms = torch.where((norms - 1).abs() < 1e-6, 1.0, norms)
            encoder, bias, decoder = encoder * norms[:, None], bias * norms, decoder / norms[:, None]
        return cls(
            encoder=encoder,
            encoder_bias=bias,
            decoder=decoder,
            decoder_bias=tensors["b_dec"].float(),
            k=int(config["k"]),
            centred=bool(config.get("apply_b_dec_to_input", True)),
            normalisation=config.get("otoscope_normalisation", "none"),
            site=site,
            name=name,
        )


class TopKLearner(SparseLearner):
    """The training state of one TopK dictionary."""

    spec: TopK
    _wide: tuple[Tensor, Tensor]  # the wider code of the batch at hand: one encoding serves both reconstructions

    def select(self, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the `k` strongest features of each frame."""
        k = self.k_at(step)
        found = min(WIDER * k, self.spec.n_features) if self.spec.multi_topk else k
        weights = self.parameters
        self._wide = encode_top_k(x, weights["encoder"], weights["encoder_bias"], found, shortlist=self.shortlist)
        values, indices = self._wide
        return values[:, :k].contiguous(), indices[:, :k].contiguous()

    def further_gradients(
        self, gradients: dict[str, Tensor], batch: Batch, values: Tensor, indices: Tensor, x: Tensor, step: int
    ) -> Tensor:
        """Add the gradients of Multi-TopK's second reconstruction; return its weighted loss."""
        if not self.spec.multi_topk:
            return x.new_zeros(())
        wider, _, loss = self.rebuild(batch, total_variance(batch.y), *self._wide, x)
        for name, gradient in wider.items():
            gradients[name] += WIDER_WEIGHT * gradient
        return WIDER_WEIGHT * loss

    def k_at(self, step: int) -> int:
        """Return the number of active features at `step`."""
        start = self.spec.k_start
        steps = self.spec.k_warm_up * self.plan.steps
        if start is None or step >= steps:
            return self.spec.k
        return round(start + (self.spec.k - start) * step / steps)

    def dictionary(self, scaling: Scaling, *, sites: tuple[str, ...], name: str) -> TopKDictionary:
        """Return the dictionary for raw activations."""
        weights, _ = folded(self.parameters, scaling)
        return TopKDictionary(**weights, k=self.spec.k, site=sites[0], sites=sites, name=name)
