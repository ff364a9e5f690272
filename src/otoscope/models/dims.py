"""The sizes of a model: everything a site's shape is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dims:
    """Sizes of one speech model, all read from its configuration (never guessed from its name)."""

    n_layers: int
    """Encoder layers."""
    d_model: int
    n_heads: int
    d_mlp: int
    n_mels: int
    n_positions: int
    """Encoder positions of one window (1500 for Whisper's 30 s)."""
    window_samples: int
    """Samples of one window at 16 kHz."""
    n_decoder_layers: int
    n_decoder_heads: int
    n_text_positions: int
    n_vocab: int

    @property
    def d_head(self) -> int:
        """Width of one encoder attention head."""
        return self.d_model // self.n_heads

    @property
    def window_s(self) -> float:
        """Length of one window in seconds."""
        return self.window_samples / 16000
