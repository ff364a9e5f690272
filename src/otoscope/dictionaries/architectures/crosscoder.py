"""Crosscoder: Lindsey et al. 2024, "Sparse Crosscoders for Cross-Layer Features and Model Diffing".

One code rebuilds several sites at once, so that a feature which lives in several layers is one feature. Sparsity is
TopK instead of the paper's L1, whose shrinkage makes shared features look private (Minder et al. 2025, arXiv
2504.02922): a frame keeps its `k` strongest features, strength being value times decoder norm over all sites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.autoencoder import Autoencoder
from otoscope.dictionaries.kernels import encode_top_k
from otoscope.dictionaries.registry import register, trainable
from otoscope.dictionaries.training.learner import Reads, Scaling, TrainingPlan
from otoscope.dictionaries.training.sparse_step import SparseLearner, SparseSpec, folded
from otoscope.errors import InputError, nearest

PRIVATE = 0.7
"""Share of a feature's decoder norm in one site from which it counts as that site's own; of two sites that share it,
each then has 30 to 70 %."""


@trainable
@dataclass(frozen=True)
class Crosscoder(SparseSpec):
    """A crosscoder to be trained on several sites, each centred and scaled to the same size for itself."""

    kind: ClassVar[str] = "crosscoder"
    reads: ClassVar[Reads] = "several"

    def learner(self, plan: TrainingPlan) -> CrosscoderLearner:
        """Return a fresh learner for one run."""
        return CrosscoderLearner(self, plan)


@register
class CrosscoderDictionary(Autoencoder):
    """A dictionary over several sites whose activations lie side by side (`side_by_side`).

    Attributes:
        k: features active in each frame, or in each token.
        widths: width of every site, in the order of `sites`.
        site_scales: `[sites]`, the factor that brings activations of each site to the common size of training.
    """

    kind: ClassVar[str] = "crosscoder"

    def __init__(
        self, *, k: int, widths: Sequence[int], site_scales: Tensor, name: str = "crosscoder", **weights: Any
    ) -> None:
        super().__init__(name=name, **weights)
        if not 1 <= k <= self.n_features:
            raise InputError(f"k must be between 1 and the {self.n_features} features, got {k}.")
        if sum(widths) != self.d_in or len(site_scales) != len(widths):
            raise InputError(
                f"The widths {list(widths)} and {len(site_scales)} scales of a crosscoder's sites do not fit its "
                f"input of {self.d_in} units."
            )
        self.k = k
        self.widths = tuple(int(width) for width in widths)
        self.site_scales = site_scales.detach().float().to(self.decoder.device)

    def _select(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return encode_top_k(x, self.encoder, self.encoder_bias, self.k)

    def side_by_side(self, activations: Mapping[str, Tensor]) -> Tensor:
        """Return what `encode` takes, `[t, d_in]`, from activations by site, e.g. a `Run` that read all `sites`.

        Raises:
            InputError: a site is missing, or sites have different numbers of rows (an encoder's frames and a
                decoder's tokens are brought together by `otoscope.activations.tokens`).
        """
        parts = []
        for site in self.sites:
            if site not in activations:
                raise InputError(f"The crosscoder {self.name!r} also reads {site}, which is not among the activations.")
            parts.append(activations[site])
        if len({len(part) for part in parts}) > 1:
            raise InputError(
                f"The sites of crosscoder {self.name!r} have {[len(part) for part in parts]} rows; they must be of "
                "the same frames or tokens."
            )
        return torch.cat(parts, dim=1)

    def split(self, y: Tensor) -> dict[str, Tensor]:
        """Return activations that lie side by side `[..., d_in]` by site."""
        return dict(zip(self.sites, torch.split(y, list(self.widths), dim=-1), strict=True))

    def directions_at(self, site: str, features: Sequence[int]) -> Tensor:
        """Return what one unit of each feature adds at one site, `[len(features), d]`.

        Raises:
            InputError: the crosscoder does not read that site.
        """
        parts = self.split(self.directions(features))
        if site not in parts:
            raise InputError(f"The crosscoder {self.name!r} does not read {site!r}{nearest(site, self.sites) or '.'}")
        return parts[site]

    def layer_norms(self) -> Tensor:
        """Return the length of every feature's decoder at every site, `[n, sites]`, each site brought to one size."""
        norms = [part.norm(dim=1) for part in torch.split(self.decoder, list(self.widths), dim=1)]
        return torch.stack(norms, dim=1) * self.site_scales

    def shares(self) -> Tensor:
        """Return the share of every feature's decoder norm in every site, `[n, sites]`; rows sum to 1."""
        norms = self.layer_norms()
        return norms / norms.sum(dim=1, keepdim=True).clamp_min(1e-12)

    def share(self, feature: int) -> dict[str, float]:
        """Return by site which share of one feature's decoder norm lies there.

        Raises:
            InputError: there is no such feature.
        """
        row = self.shares()[self._check(feature)]
        return dict(zip(self.sites, row.tolist(), strict=True))

    def owners(self, private: float = PRIVATE) -> Tensor:
        """Return the site each feature belongs to alone, `[n]` int64: the one with the share `private`; -1: shared."""
        top, site = self.shares().max(dim=1)
        return torch.where(top >= private, site, -1)

    def config(self) -> dict[str, Any]:
        """Return SAELens' keys and our own."""
        return {**super().config(), "k": self.k, "widths": list(self.widths)}

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights under SAELens' names, sites side by side."""
        return {**super().tensors(), "site_scales": self.site_scales}

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> CrosscoderDictionary:
        """Build the crosscoder from what `config()` and `tensors()` return."""
        return cls(
            encoder=tensors["W_enc"].T,
            encoder_bias=tensors["b_enc"],
            decoder=tensors["W_dec"],
            decoder_bias=tensors["b_dec"],
            site_scales=tensors["site_scales"],
            widths=config["widths"],
            k=int(config["k"]),
            site=site,
            name=name,
        )


class CrosscoderLearner(SparseLearner):
    """The training state of one crosscoder; decoder rows have length 1 over all sites together."""

    spec: Crosscoder

    def __init__(self, spec: Crosscoder, plan: TrainingPlan) -> None:
        super().__init__(spec, plan)
        self.widths = (plan.d_in,) if plan.widths is None else plan.widths

    def select(self, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the `k` strongest features of each frame."""
        weights = self.parameters
        return encode_top_k(x, weights["encoder"], weights["encoder_bias"], self.spec.k, shortlist=self.shortlist)

    def dictionary(self, scaling: Scaling, *, sites: tuple[str, ...], name: str) -> CrosscoderDictionary:
        """Return the crosscoder for raw activations of `sites`."""
        weights, unit = folded(self.parameters, scaling)
        firsts = torch.tensor([0, *self.widths[:-1]]).cumsum(0)
        return CrosscoderDictionary(
            **weights,
            k=self.spec.k,
            widths=self.widths,
            site_scales=scaling.scale_out[firsts] * unit,
            site=sites[0],
            sites=sites,
            name=name,
        )
