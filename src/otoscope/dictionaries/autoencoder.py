"""The shape that nearly all trained dictionaries share: linear encoder, a rule that picks entries, linear decoder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.kernels import sparse_decode
from otoscope.dictionaries.sparse_code import SparseCode
from otoscope.errors import InputError

Normalisation = Literal["none", "unit_norm", "constant_norm", "layer_norm"]
"""What is done to every frame before it is encoded, and undone after decoding: nothing; length 1; length sqrt(d);
mean 0 and variance 1 over its units."""
_TINY = 1e-8
_LAYER_NORM_EPS = 1e-5
"""As SAELens and OpenAI's sparse_autoencoder have it: added to the (unbiased) deviation that divides, only there."""


class Autoencoder(Dictionary):
    """A dictionary with one encoder row and one decoder row for each feature; it takes raw activations.

    `encode`: the entries that `_select` picks of `encoder @ (x − decoder_bias) + encoder_bias`, where the bias is
    subtracted only if `centred`. `decode`: `Σ value · decoder[index] + decoder_bias`.

    Attributes:
        encoder: `[n, d_in]`.
        encoder_bias: `[n]`.
        decoder: `[n, d_out]`.
        decoder_bias: `[d_out]`.
        centred: whether the decoder's bias is subtracted from the input.
        normalisation: what is done to every frame first, and undone last.
    """

    def __init__(
        self,
        *,
        encoder: Tensor,
        encoder_bias: Tensor,
        decoder: Tensor,
        decoder_bias: Tensor,
        site: str,
        name: str,
        centred: bool = True,
        normalisation: Normalisation = "none",
        metadata: Mapping[str, Any] | None = None,
        target_site: str | None = None,
        sites: Sequence[str] | None = None,
    ) -> None:
        n, d_in, d_out = _check_shapes(type(self).kind, encoder, encoder_bias, decoder, decoder_bias)
        if centred and d_in != d_out:
            raise InputError(
                f"A dictionary from {d_in} to {d_out} units cannot subtract its output bias from its input."
            )
        if normalisation not in get_args(Normalisation):
            raise InputError(f"{normalisation!r} is no normalisation; valid: {', '.join(get_args(Normalisation))}.")
        super().__init__(
            name=name,
            site=site,
            d_in=d_in,
            n_features=n,
            metadata=metadata,
            d_out=d_out,
            target_site=target_site,
            sites=sites,
        )
        self.encoder = encoder.detach().float().contiguous()
        self.encoder_bias = encoder_bias.detach().float().contiguous()
        self.decoder = decoder.detach().float().contiguous()
        self.decoder_bias = decoder_bias.detach().float().contiguous()
        self.centred = centred
        self.normalisation: Normalisation = normalisation

    @torch.no_grad()
    def encode(self, x: Tensor) -> SparseCode:
        """Return the active features of raw activations `x` `[t, d_in]`."""
        x, scale, shift = normalise(self._check_width(x).float(), self.normalisation)
        values, indices = self._select(x - self.decoder_bias if self.centred else x)
        return SparseCode(values, indices, self.n_features, scale, shift)

    @abstractmethod
    def _select(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the active entries `[t, k]` of normalised and centred frames: values and int32 indices."""

    @torch.no_grad()
    def decode(self, code: SparseCode) -> Tensor:
        """Return the activations `[t, d_out]` that `code` stands for."""
        y = sparse_decode(code.values, code.indices, self.decoder) + self.decoder_bias
        y = y if code.scale is None else y * code.scale[:, None]
        return y if code.shift is None else y + code.shift[:, None]

    def directions(self, features: Sequence[int]) -> Tensor:
        """Return the decoder rows of some features, `[len(features), d_out]`."""
        return self.decoder[[self._check(index) for index in features]]

    def feature_scale(self, h: Tensor) -> Tensor | None:
        """Return the length that decoding gives to a direction in each frame, `[…, t, 1]`; None: 1 everywhere."""
        if self.normalisation == "none":
            return None
        _, scale, _ = normalise(h.reshape(-1, h.shape[-1]).float(), self.normalisation)
        assert scale is not None
        return scale.reshape(*h.shape[:-1], 1)

    def config(self) -> dict[str, Any]:
        """Return SAELens' keys."""
        return {
            "d_in": self.d_in,
            "d_sae": self.n_features,
            "apply_b_dec_to_input": self.centred,
            **({} if self.normalisation == "none" else {"otoscope_normalisation": self.normalisation}),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights under SAELens' names."""
        return {
            "W_enc": self.encoder.T.contiguous(),
            "b_enc": self.encoder_bias,
            "W_dec": self.decoder,
            "b_dec": self.decoder_bias,
        }


def normalise(x: Tensor, how: Normalisation) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return frames `[t, d]` normalised, and what undoes it: `scale` and `shift` `[t]` (see `SparseCode`)."""
    if how == "none":
        return x, None, None
    if how == "layer_norm":
        shift = x.mean(dim=1)
        scale = x.std(dim=1)
        return (x - shift[:, None]) / (scale[:, None] + _LAYER_NORM_EPS), scale, shift
    scale = x.norm(dim=1).clamp_min(_TINY)
    if how == "constant_norm":
        scale = scale / x.shape[1] ** 0.5
    return x / scale[:, None], scale, None


def _check_shapes(
    kind: str, encoder: Tensor, encoder_bias: Tensor, decoder: Tensor, decoder_bias: Tensor
) -> tuple[int, int, int]:
    """Return the number of features and both widths if the weights agree on them."""
    shapes = [list(tensor.shape) for tensor in (encoder, encoder_bias, decoder, decoder_bias)]
    n, d_in, d_out = encoder_bias.numel(), encoder.shape[-1] if encoder.ndim else 0, decoder_bias.numel()
    if shapes != [[n, d_in], [n], [n, d_out], [d_out]]:
        raise InputError(f"The weights of a {kind} dictionary do not fit together: their shapes are {shapes}.")
    return n, d_in, d_out
