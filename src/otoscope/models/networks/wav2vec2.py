"""wav2vec 2.0 and its kin: convolutions over the samples, blocks of attention, and a CTC head on some checkpoints.

Baevski et al. 2020 (wav2vec 2.0), Hsu et al. 2021 (HuBERT), Chen et al. 2022 (WavLM). The `base` models normalise over
time after the first convolution and close their blocks with a norm; the `large` ones normalise every convolution
and what each block reads. Nothing is padded: a position exists for each whole window of the convolutions.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otoscope.models.dims import ConvLayer, Dims
from otoscope.models.networks.arithmetic import Linear
from otoscope.models.networks.blocks import ACTIVATIONS, Block
from otoscope.models.networks.relative_positions import Distances, Gate
from otoscope.models.networks.taps import tap

ConvNorm = Literal["group", "layer"]
"""Whether the first convolution is normalised over time, or each of them over its channels."""


class Convolution(nn.Module):
    """One convolution of the front end with its norm, if it has one, and its non-linearity; `[b, c, t]` both ways."""

    def __init__(
        self, site: str, n_in: int, layer: ConvLayer, norm: ConvNorm | None, activation: str, *, bias: bool
    ) -> None:
        super().__init__()
        self.site = site
        self.conv = nn.Conv1d(n_in, layer.width, layer.kernel, layer.stride, bias=bias)
        self.norm: nn.Module | None = None
        if norm is not None:
            self.norm = nn.LayerNorm(layer.width) if norm == "layer" else nn.GroupNorm(layer.width, layer.width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        x = tap(self.site, self.conv(x).transpose(1, 2))
        if isinstance(self.norm, nn.LayerNorm):
            x = self.norm(x)
        x = x.transpose(1, 2)
        if isinstance(self.norm, nn.GroupNorm):
            x = self.norm(x)
        return self.activation(x)


class Features(nn.Module):
    """What the convolutions found, `[b, t, c]`, normalised and projected to the model's width, `[b, t, d]`."""

    def __init__(self, width: int, d_model: int, *, norm: bool, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps) if norm else None
        self.projection = Linear(width, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return tap("encoder.features", self.projection(x if self.norm is None else self.norm(x)))


class Positions(nn.Module):
    """Positions `[b, t, d]` that a wide grouped convolution over the features finds.

    `rescaled` gives each channel a factor and an offset first (where the checkpoint normalises batches there).
    """

    def __init__(self, d_model: int, kernel: int, groups: int, activation: str, *, rescaled: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv1d(d_model, d_model, kernel, padding=kernel // 2, groups=groups)
        self.factor = nn.Parameter(torch.empty(d_model)) if rescaled else None
        self.offset = nn.Parameter(torch.empty(d_model)) if rescaled else None
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        if self.factor is not None and self.offset is not None:
            x = x * self.factor + self.offset
        found = self.conv(x.transpose(1, 2))[..., : x.shape[1]]  # an even kernel gives one position too many
        return self.activation(found).transpose(1, 2)


class StackedPositions(nn.Module):
    """The same from several narrower convolutions, each normalised (data2vec)."""

    def __init__(self, d_model: int, n_layers: int, kernel: int, groups: int, activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(d_model, d_model, kernel, padding=kernel // 2, groups=groups) for _ in range(n_layers)
        )
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.layers:
            found = conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
            x = self.activation(F.layer_norm(found, found.shape[-1:]))
        return x


class Encoder(nn.Module):
    """From samples `[b, n]` at 16 kHz to features `[b, t, d]`."""

    def __init__(
        self,
        dims: Dims,
        positions: nn.Module,
        *,
        conv_norm: ConvNorm,
        conv_bias: bool,
        conv_activation: str,
        activation: str,
        project_norm: bool,
        eps: float,
        distances: Distances | None,
    ) -> None:
        super().__init__()
        d = dims.d_model
        inputs = [1, *(conv.width for conv in dims.convs)]
        self.convs = nn.ModuleList(
            Convolution(
                f"encoder.conv{number + 1}",
                inputs[number],
                conv,
                conv_norm if conv_norm == "layer" or number == 0 else None,
                conv_activation,
                bias=conv_bias,
            )
            for number, conv in enumerate(dims.convs)
        )
        self.features = Features(inputs[-1], d, norm=project_norm, eps=eps)
        self.positions = positions
        self.norm_first = dims.norm == "post"
        self.norm = nn.LayerNorm(d, eps=eps)
        self.distances = distances
        self.blocks = nn.ModuleList(
            Block(
                f"encoder.{layer}",
                d,
                dims.n_heads,
                dims.d_mlp,
                norm=dims.norm,
                activation=activation,
                eps=eps,
                gate=Gate(dims.n_heads, dims.d_head) if distances is not None else None,
            )
            for layer in range(dims.n_layers)
        )

    def forward(self, samples: Tensor) -> Tensor:
        x = samples[:, None]
        for conv in self.convs:
            x = conv(x)
        x = self.features(x.transpose(1, 2))
        x = x + self.positions(x)
        x = tap("encoder.embed", self.norm(x) if self.norm_first else x)
        bias = None if self.distances is None else self.distances(x.shape[1])
        for block in self.blocks:
            x = block(x, bias=bias)
        return x if self.norm_first else tap("encoder.ln_post", self.norm(x))


class Wav2Vec2(nn.Module):
    """The whole model; `head`, where the checkpoint has one, gives the scores of letters or phones (CTC)."""

    def __init__(self, encoder: Encoder, head: nn.Linear | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def encode(self, samples: Tensor) -> Tensor:
        """Return the encoder's output `[b, t, d]` for samples `[b, n]`."""
        encoded: Tensor = self.encoder(samples)
        return encoded

    def letters(self, encoded: Tensor) -> Tensor:
        """Return the scores `[b, t, v]` of each frame's letter, in float32."""
        if self.head is None:
            raise TypeError("This network has no CTC head.")
        return tap("logits", self.head(encoded).float())
