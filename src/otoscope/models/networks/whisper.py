"""Whisper: an encoder of the log-mel spectrogram and a text decoder that attends to it (Radford et al. 2022, §2.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otoscope.models.dims import Dims
from otoscope.models.networks.blocks import ACTIVATIONS, Block, KeyValues
from otoscope.models.networks.taps import tap


class Memory:
    """What the decoder keeps of the tokens so far and of the sound: `(own, of the sound)` for each block."""

    def __init__(self, n_layers: int) -> None:
        self.layers = [(KeyValues(), KeyValues()) for _ in range(n_layers)]

    @property
    def position(self) -> int:
        """How many tokens the decoder has seen."""
        return self.layers[0][0].length if self.layers else 0

    def reorder(self, rows: Tensor) -> None:
        """Let row i go on from what row `rows[i]`, which hears the same sound, has seen."""
        for own, _ in self.layers:
            own.select(rows)

    def spread(self, n: int) -> None:
        """Make n rows of each, which follow one another."""
        for own, of_sound in self.layers:
            own.spread(n)
            of_sound.spread(n, fixed=True)


class Encoder(nn.Module):
    """From log-mel `[b, m, 2 t]` to normalised features `[b, t, d]`."""

    def __init__(self, dims: Dims, activation: str) -> None:
        super().__init__()
        d = dims.d_model
        self.activation = ACTIVATIONS[activation]
        self.conv1 = nn.Conv1d(dims.n_mels, d, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(d, d, kernel_size=3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.empty(dims.n_positions, d))
        self.blocks = nn.ModuleList(
            Block(f"encoder.{layer}", d, dims.n_heads, dims.d_mlp, activation=activation, key_bias=False)
            for layer in range(dims.n_layers)
        )
        self.norm_post = nn.LayerNorm(d)

    def forward(self, mel: Tensor) -> Tensor:
        x = tap("mel", mel.transpose(1, 2))
        x = tap("encoder.conv1", self.conv1(x.transpose(1, 2)).transpose(1, 2))
        x = tap("encoder.conv2", self.conv2(self.activation(x).transpose(1, 2)).transpose(1, 2))
        x = self.activation(x).contiguous()  # frames one after another, as the blocks read them
        x = tap("encoder.embed", x + self.positions)
        for block in self.blocks:
            x = block(x)
        return tap("encoder.ln_post", self.norm_post(x))


class Decoder(nn.Module):
    """From tokens `[b, n]` and the encoder's output to normalised features `[b, n, d]`."""

    def __init__(self, dims: Dims, activation: str, *, scale_embedding: bool = False) -> None:
        super().__init__()
        d = dims.d_model
        self.scale = d**0.5 if scale_embedding else 1.0
        self.tokens = nn.Embedding.from_pretrained(torch.empty(dims.n_vocab, d))  # type: ignore[no-untyped-call]
        self.positions = nn.Parameter(torch.empty(dims.n_text_positions, d))
        self.blocks = nn.ModuleList(
            Block(
                f"decoder.{layer}",
                d,
                dims.n_decoder_heads,
                dims.d_decoder_mlp,
                activation=activation,
                key_bias=False,
                cross=True,
            )
            for layer in range(dims.n_decoder_layers)
        )
        self.norm_post = nn.LayerNorm(d)

    def forward(self, ids: Tensor, sound: Tensor, memory: Memory | None = None) -> Tensor:
        first = memory.position if memory else 0
        x = tap("decoder.tokens", self.tokens(ids) * self.scale)
        x = tap("decoder.embed", x + self.positions[first : first + ids.shape[1]])
        layers = memory.layers if memory else [None] * len(self.blocks)
        for block, held in zip(self.blocks, layers, strict=True):
            x = block(x, causal=True, sound=sound, memory=held)
        return tap("decoder.ln_post", self.norm_post(x))


class Whisper(nn.Module):
    """The whole model; `head` is its output layer, usually the token embedding itself."""

    def __init__(
        self, dims: Dims, activation: str = "gelu", *, scale_embedding: bool = False, tied: bool = True
    ) -> None:
        super().__init__()
        self.encoder = Encoder(dims, activation)
        self.decoder = Decoder(dims, activation, scale_embedding=scale_embedding)
        self.head = None if tied else nn.Linear(dims.d_model, dims.n_vocab, bias=False)

    def encode(self, mel: Tensor) -> Tensor:
        """Return the encoder's output `[b, t, d]` for windows `[b, m, 2 t]`."""
        encoded: Tensor = self.encoder(mel)
        return encoded

    def decode(self, ids: Tensor, sound: Tensor, memory: Memory | None = None, *, last_only: bool = False) -> Tensor:
        """Return the scores `[b, n, v]` of the token after each of `ids [b, n]`, in float32.

        With `last_only`, only the last token's are computed, `[b, 1, v]`.
        """
        hidden = self.decoder(ids, sound, memory)
        weight = self.decoder.tokens.weight if self.head is None else self.head.weight
        return tap("logits", F.linear(hidden[:, -1:] if last_only else hidden, weight).float())
