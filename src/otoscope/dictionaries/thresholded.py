"""Dictionaries whose features are active above a threshold: what JumpReLU, BatchTopK and ReLU autoencoders become.

JumpReLU: Rajamanoharan et al. 2024 (arXiv 2407.14435), equation 4. A BatchTopK dictionary takes one threshold for all
features once it is trained (Bussmann et al. 2024, arXiv 2412.06410, section 3), a ReLU dictionary the threshold 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.autoencoder import Autoencoder
from otoscope.dictionaries.kernels import reference, top_k
from otoscope.dictionaries.registry import register
from otoscope.errors import InputError
from otoscope.models.networks.arithmetic import product

_FRAMES = {"cpu": 256}
_FRAMES_ELSEWHERE = 8192
_FEW = 512
"""Active entries of a frame up to which the kernel for few entries is quicker than sorting all."""


@register
class ThresholdDictionary(Autoencoder):
    """A dictionary whose entries are active where they are positive and exceed the threshold of their feature.

    Attributes:
        threshold: `[n]` float32, in the unit of the values.
    """

    kind: ClassVar[str] = "jumprelu"

    def __init__(self, *, threshold: Tensor | float, name: str = "jumprelu", **weights: Any) -> None:
        super().__init__(name=name, **weights)
        threshold = torch.as_tensor(threshold).detach().float().to(self.encoder.device)
        if threshold.ndim and threshold.shape != self.encoder_bias.shape:
            raise InputError(
                f"A threshold must be one number or one for each of the {self.n_features} features, "
                f"got shape {list(threshold.shape)}."
            )
        if not bool(torch.isfinite(threshold).all()):
            raise InputError(f"The thresholds of dictionary {self.name!r} are not all finite numbers.")
        self.threshold = threshold.expand(self.n_features).contiguous()

    def _select(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return active_entries(x, lambda block: product(block, self.encoder, self.encoder_bias), self.threshold)

    def with_threshold(self, threshold: Tensor | float) -> ThresholdDictionary:
        """Return this dictionary with another threshold, one number or `[n]`: for other data or another sparsity."""
        return ThresholdDictionary(
            threshold=threshold,
            encoder=self.encoder,
            encoder_bias=self.encoder_bias,
            decoder=self.decoder,
            decoder_bias=self.decoder_bias,
            centred=self.centred,
            normalisation=self.normalisation,
            metadata=self.metadata,
            site=self.site,
            sites=self.sites,
            target_site=self.target_site,
            name=self.name,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights and the threshold under SAELens' names."""
        return {**super().tensors(), "threshold": self.threshold}

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> ThresholdDictionary:
        """Build the dictionary from SAELens' keys."""
        return cls(threshold=tensors["threshold"], **_weights(config, tensors), name=name, site=site)


@register
class ReluDictionary(ThresholdDictionary):
    """A dictionary whose positive entries are active: SAELens' "standard" architecture."""

    kind: ClassVar[str] = "standard"

    def __init__(self, *, name: str = "relu", **weights: Any) -> None:
        super().__init__(threshold=0.0, name=name, **weights)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights under SAELens' names."""
        return Autoencoder.tensors(self)

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> ReluDictionary:
        """Build the dictionary from SAELens' keys."""
        return cls(**_weights(config, tensors), name=name, site=site)


def active_entries(x: Tensor, pre: Callable[[Tensor], Tensor], threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Return `entries_above` of `pre(x)`, block by block, for frames `x` `[t, d]`."""
    blocks = torch.split(x, _FRAMES.get(x.device.type, _FRAMES_ELSEWHERE))
    parts = [entries_above(pre(block), threshold) for block in blocks]
    k = max(values.shape[1] for values, _ in parts)
    values, indices = (x.new_zeros(len(x), k, dtype=kind) for kind in (torch.float32, torch.int32))
    start = 0
    for some, where in parts:
        stop = start + len(some)
        values[start:stop, : some.shape[1]], indices[start:stop, : some.shape[1]] = some, where
        start = stop
    return values, indices


def entries_above(pre: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positive entries of `pre` `[t, n]` that exceed `threshold` `[n]`: values and int32 indices `[t, k]`.

    Values fall along a row; `k` is the largest number of active entries of a row, at least 1, and shorter rows are
    padded with value 0 and index 0. What is not active is set to 0 in `pre` too.
    """
    silent = pre <= threshold.clamp_min(0)
    k = max(pre.shape[1] - int(silent.sum(dim=1).amin()), 1) if len(pre) else 1
    pre.masked_fill_(silent, 0)
    return top_k(pre, k) if k <= _FEW else reference.top_k(pre, k)


def _weights(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what both kinds keep under SAELens' names."""
    return {
        "encoder": tensors["W_enc"].T,
        "encoder_bias": tensors["b_enc"],
        "decoder": tensors["W_dec"],
        "decoder_bias": tensors["b_dec"],
        "centred": bool(config.get("apply_b_dec_to_input", True)),
        "normalisation": config.get("otoscope_normalisation", "none"),
    }
