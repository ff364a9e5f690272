"""Transcoder: Dunefsky et al. 2024 (arXiv 2406.11944); with a skip connection: Paulo et al. 2025 (arXiv 2501.18823).

It reads the input of a layer's MLP and rebuilds its output, so that features stand for what the MLP computes. With
`skip` a linear map beside the features takes what is linear in the MLP. Sparsity is that of TopK (Gao et al. 2024).
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
from otoscope.dictionaries.thresholded import ThresholdDictionary
from otoscope.dictionaries.training.learner import Batch, Reads, Scaling, TrainingPlan
from otoscope.dictionaries.training.sparse_step import SparseLearner, SparseSpec, folded
from otoscope.errors import InputError


@trainable
@dataclass(frozen=True)
class Transcoder(SparseSpec):
    """A transcoder to be trained from one site to another, e.g. `encoder.2.mlp.in` to `encoder.2.mlp.out`."""

    skip: bool = False
    """Add a linear map from input to output beside the features; it begins at 0."""

    kind: ClassVar[str] = "transcoder"
    reads: ClassVar[Reads] = "in_out"

    def learner(self, plan: TrainingPlan) -> TranscoderLearner:
        """Return a fresh learner for one run."""
        return TranscoderLearner(self, plan)


class TranscoderDictionary(Autoencoder):
    """What transcoders share: `y = decode(encode(x)) + skip @ x`, nothing subtracted from the input.

    `encode` and `decode` leave the skip connection out, as in SAELens; `reconstruct` has it.

    Attributes:
        skip: `[d_out, d_in]`; None: no skip connection.
    """

    def __init__(self, *, skip: Tensor | None = None, **weights: Any) -> None:
        super().__init__(**{**weights, "centred": False})
        if skip is not None and list(skip.shape) != [self.d_out, self.d_in]:
            raise InputError(
                f"The skip connection of a transcoder from {self.d_in} to {self.d_out} units has the shape "
                f"[{self.d_out}, {self.d_in}], got {list(skip.shape)}."
            )
        self.skip = None if skip is None else skip.detach().float().contiguous()

    def reconstruct(self, h: Tensor) -> Tensor:
        """Return the output `[..., t, d_out]` that belongs to input activations `h` `[..., t, d_in]`."""
        rebuilt = super().reconstruct(h)
        return rebuilt if self.skip is None else rebuilt + h.float() @ self.skip.to(h.device).T

    def config(self) -> dict[str, Any]:
        """Return SAELens' keys."""
        return {**super().config(), "d_out": self.d_out}

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights under SAELens' names."""
        return {**super().tensors(), **({} if self.skip is None else {"W_skip": self.skip})}

    def with_threshold(self, threshold: Tensor | float) -> ThresholdTranscoder:
        """Return this transcoder with features active above a threshold, one number or `[n]`; SAELens opens it."""
        cls = ThresholdTranscoder if self.skip is None else ThresholdSkipTranscoder
        return cls(
            threshold=threshold,
            skip=self.skip,
            encoder=self.encoder,
            encoder_bias=self.encoder_bias,
            decoder=self.decoder,
            decoder_bias=self.decoder_bias,
            normalisation=self.normalisation,
            metadata=self.metadata,
            site=self.site,
            sites=self.sites,
            target_site=self.target_site,
            name=self.name,
        )


@register
class TopKTranscoder(TranscoderDictionary):
    """A transcoder whose `k` largest positive entries are active.

    SAELens has no such architecture: under a name of its own it is refused there rather than taken for a ReLU one.
    """

    kind: ClassVar[str] = "topk_transcoder"

    def __init__(self, *, k: int, name: str = "transcoder", **weights: Any) -> None:
        super().__init__(name=name, **weights)
        if not 1 <= k <= self.n_features:
            raise InputError(f"k must be between 1 and the {self.n_features} features, got {k}.")
        self.k = k

    def _select(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return encode_top_k(x, self.encoder, self.encoder_bias, self.k)

    def config(self) -> dict[str, Any]:
        """Return SAELens' keys and `k`."""
        return {**super().config(), "k": self.k}

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> TopKTranscoder:
        """Build the transcoder from what `config()` and `tensors()` return."""
        return cls(k=int(config["k"]), **_weights(tensors), name=name, site=site)


@register
class ThresholdTranscoder(TranscoderDictionary, ThresholdDictionary):
    """A transcoder whose positive entries above the threshold of their feature are active."""

    kind: ClassVar[str] = "jumprelu_transcoder"

    def __init__(self, *, threshold: Tensor | float = 0.0, name: str = "transcoder", **weights: Any) -> None:
        super().__init__(threshold=threshold, name=name, **weights)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights under SAELens' names, the threshold only where it knows one."""
        tensors = super().tensors()
        return {key: tensors[key] for key in tensors if key != "threshold" or self.kind.startswith("jumprelu")}

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> ThresholdTranscoder:
        """Build the transcoder from SAELens' keys."""
        return cls(threshold=tensors.get("threshold", 0.0), **_weights(tensors), name=name, site=site)


@register
class ThresholdSkipTranscoder(ThresholdTranscoder):
    """The same with a skip connection, under SAELens' name for it."""

    kind: ClassVar[str] = "jumprelu_skip_transcoder"


@register
class ReluTranscoder(ThresholdTranscoder):
    """SAELens' plain transcoder: every positive entry is active."""

    kind: ClassVar[str] = "transcoder"


@register
class ReluSkipTranscoder(ThresholdTranscoder):
    """SAELens' plain transcoder with a skip connection."""

    kind: ClassVar[str] = "skip_transcoder"


class TranscoderLearner(SparseLearner):
    """The training state of one transcoder."""

    spec: Transcoder
    centred = False

    def __init__(self, spec: Transcoder, plan: TrainingPlan) -> None:
        super().__init__(spec, plan)
        random = plan.generator()
        for name, width in (("encoder", plan.d_in), ("decoder", plan.width_out)):
            rows = torch.randn(spec.n_features, width, generator=random)
            self.parameters[name] = torch.nn.functional.normalize(rows, dim=1).to(plan.device)
        if spec.skip:
            self.parameters["skip"] = self.parameters["decoder"].new_zeros(plan.width_out, plan.d_in)

    def select(self, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the `k` strongest features of each frame."""
        weights = self.parameters
        return encode_top_k(x, weights["encoder"], weights["encoder_bias"], self.spec.k, shortlist=self.shortlist)

    def dense_part(self, batch: Batch) -> Tensor:
        """Return what bias and skip connection rebuild."""
        bias = self.parameters["decoder_bias"]
        return bias + batch.x @ self.parameters["skip"].T if self.spec.skip else bias

    def through_dense_part(self, gradients: dict[str, Tensor], by_output: Tensor, batch: Batch) -> None:
        """Carry a gradient at the reconstruction back to bias and skip connection."""
        super().through_dense_part(gradients, by_output, batch)
        if self.spec.skip:
            gradients["skip"] = by_output.T @ batch.x

    def dictionary(self, scaling: Scaling, *, sites: tuple[str, ...], name: str) -> TopKTranscoder:
        """Return the transcoder from raw activations of `sites[0]` to those of `sites[1]`."""
        weights, _ = folded(self.parameters, scaling, centred=False)
        skip = None
        if self.spec.skip:
            exact = self.parameters["skip"].detach().cpu().double()
            exact = exact * scaling.scale_in / scaling.scale_out[:, None]
            weights["decoder_bias"] = (weights["decoder_bias"].double() - exact @ scaling.mean_in).float()
            skip = exact.float()
        return TopKTranscoder(
            **weights, k=self.spec.k, skip=skip, site=sites[0], sites=sites[:1], target_site=sites[-1], name=name
        )


def _weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """Return what all kinds keep under SAELens' names."""
    return {
        "encoder": tensors["W_enc"].T,
        "encoder_bias": tensors["b_enc"],
        "decoder": tensors["W_dec"],
        "decoder_bias": tensors["b_dec"],
        "skip": tensors.get("W_skip"),
    }
