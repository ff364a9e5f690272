"""The sizes of a model: everything a site's shape, layers and heads are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

SAMPLE_RATE_HZ = 16000
"""Samples per second that every supported model hears."""


@dataclass(frozen=True)
class ConvLayer:
    """One convolution of the front end: output channels, kernel and stride in samples of its input."""

    width: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class Dims:
    """Sizes of one speech model, all read from its configuration (never guessed from its name)."""

    family: str
    """The adapter that reads it: `whisper`, `wav2vec2`, `hubert`, `wavlm`."""
    n_layers: int
    """Encoder layers."""
    d_model: int
    n_heads: int
    d_mlp: int
    window_samples: int
    """Samples of one window at 16 kHz; longer clips are cut into windows."""
    n_mels: int = 0
    """Mel bins of the input; 0 for models that hear samples."""
    n_positions: int = 0
    """Encoder positions of one full window (1500 for Whisper's 30 s)."""
    convs: tuple[ConvLayer, ...] = ()
    """The convolutions of the front end, in order."""
    norm: Literal["pre", "post"] = "pre"
    """Whether blocks normalise what they read (`pre`) or what they have added up (`post`)."""
    n_decoder_layers: int = 0
    n_decoder_heads: int = 0
    d_decoder_mlp: int = 0
    n_text_positions: int = 0
    n_vocab: int = 0
    """Tokens of the text decoder or CTC head; 0 for models that write no text."""

    @property
    def d_head(self) -> int:
        """Width of one encoder attention head."""
        return self.d_model // self.n_heads

    @property
    def window_s(self) -> float:
        """Length of one window in seconds."""
        return self.window_samples / SAMPLE_RATE_HZ

    @property
    def traits(self) -> frozenset[str]:
        """What decides which sites the model has (see `sites.REASONS`)."""
        traits = {f"{self.norm}-norm", "mel" if self.n_mels else "samples"}
        if self.n_decoder_layers:
            traits.add("decoder")
        if self.n_vocab:
            traits.add("text")
        return frozenset(traits | {f"conv{number + 1}" for number in range(len(self.convs))})

    def conv_stride(self, number: int) -> tuple[int, int]:
        """Return `(stride, receptive field)` in samples of the output of convolution `number` (from 1)."""
        stride, field = (160, 400) if self.n_mels else (1, 1)
        for conv in self.convs[:number]:
            field += (conv.kernel - 1) * stride
            stride *= conv.stride
        return stride, field

    @property
    def hop_samples(self) -> int:
        """Samples from one encoder position to the next."""
        return self.conv_stride(len(self.convs))[0]

    def n_frames(self, n_samples: int) -> int:
        """Return how many encoder positions `n_samples` samples of one window fill.

        A padded window (Whisper's) counts every position begun; unpadded convolutions count whole kernels only.
        """
        if self.n_mels:
            return math.ceil(n_samples / self.hop_samples)
        for conv in self.convs:
            n_samples = max(0, (n_samples - conv.kernel) // conv.stride + 1)
        return n_samples
