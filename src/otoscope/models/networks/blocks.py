"""What all families are made of: attention, MLP and the block that joins them, with a tap at every site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otoscope.models.networks.arithmetic import Linear, in_blocks
from otoscope.models.networks.attention import ScoreBias, attend
from otoscope.models.networks.taps import current_tape, tap

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}
"""Non-linearities by the names that configurations use."""


class KeyValues:
    """The keys and values `[b, t, d]` of one attention for the tokens so far; room is made as they come."""

    def __init__(self) -> None:
        self._k: Tensor | None = None
        self._v: Tensor | None = None
        self.length = 0

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append `k` and `v`; return all so far."""
        stop = self.length + k.shape[1]
        if self._k is None or self._v is None or stop > self._k.shape[1]:
            self._k, self._v = self._grown(self._k, k, stop), self._grown(self._v, v, stop)
        self._k[:, self.length : stop] = k
        self._v[:, self.length : stop] = v
        self.length = stop
        return self._k[:, :stop], self._v[:, :stop]

    def _grown(self, held: Tensor | None, new: Tensor, stop: int) -> Tensor:
        grown = new.new_empty(new.shape[0], max(64, 2 * stop), new.shape[2])
        if held is not None:
            grown[:, : self.length] = held[:, : self.length]
        return grown

    def fixed(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the keys and values that `make` gives, made only the first time (attention to the sound)."""
        if self._k is None or self._v is None:
            self._k, self._v = make()
            self.length = self._k.shape[1]
        return self._k, self._v

    def select(self, rows: Tensor) -> None:
        """Let row i go on from row `rows[i]`."""
        if self._k is not None and self._v is not None:
            self._k[:, : self.length], self._v[:, : self.length] = (
                self._k[rows, : self.length],
                self._v[rows, : self.length],
            )

    def spread(self, n: int, *, fixed: bool = False) -> None:
        """Make n rows of each, which follow one another; copies of a `fixed` single row share its memory."""
        if self._k is not None and self._v is not None:
            if fixed and len(self._k) == 1:
                self._k, self._v = self._k.expand(n, -1, -1), self._v.expand(n, -1, -1)
            else:
                self._k, self._v = self._k.repeat_interleave(n, 0), self._v.repeat_interleave(n, 0)


class Attention(nn.Module):
    """Multi-head attention; `site` is the prefix of its sites, e.g. `encoder.2.attn`.

    A `gate` turns the bias given into one that depends on what is read (WavLM).
    """

    def __init__(
        self, site: str, d_model: int, n_heads: int, *, key_bias: bool = True, gate: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.site = site
        self.n_heads = n_heads
        self.q = Linear(d_model, d_model)
        self.k = Linear(d_model, d_model, bias=key_bias)
        self.v = Linear(d_model, d_model)
        self.out = Linear(d_model, d_model)
        self.gate = gate

    def forward(
        self,
        x: Tensor,
        *,
        bias: ScoreBias | None = None,
        causal: bool = False,
        memory: KeyValues | None = None,
        sound: Tensor | None = None,
    ) -> Tensor:
        """Attend from `x [b, t, d]` to itself, or to `sound [b, k, d]`; `memory` holds what came before."""
        if self.gate is not None and bias is not None:
            bias = self.gate(x, bias)
        q = tap(f"{self.site}.q", self.q(x))
        position = 0
        if sound is not None:
            k, v = self._keys(sound) if memory is None else memory.fixed(lambda: self._keys(sound))
        else:
            k, v = self._keys(x)
            if memory is not None:
                position = memory.length
                k, v = memory.extend(k, v)
        z = attend(self.site, q, k, v, self.n_heads, bias=bias, causal=causal, position=position)
        return tap(f"{self.site}.out", self.out(tap(f"{self.site}.z", z)))

    def _keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return tap(f"{self.site}.k", self.k(x)), tap(f"{self.site}.v", self.v(x))


class MLP(nn.Module):
    """Two linear layers around a non-linearity; `site` is the prefix of its sites, e.g. `encoder.2.mlp`."""

    def __init__(self, site: str, d_model: int, d_mlp: int, activation: str = "gelu") -> None:
        super().__init__()
        self.site = site
        self.activation = ACTIVATIONS[activation]
        self.up = Linear(d_model, d_mlp)
        self.down = Linear(d_mlp, d_model)

    def forward(self, x: Tensor) -> Tensor:
        tape = current_tape()
        if tape is not None and (tape.concerns(f"{self.site}.pre") or tape.concerns(f"{self.site}.post")):
            pre = tap(f"{self.site}.pre", in_blocks(self.up, x))
            post = tap(f"{self.site}.post", self.activation(pre))
            out = in_blocks(self.down, post)
        else:
            out = in_blocks(lambda rows: self.down(self.activation(self.up(rows))), x)
        return tap(f"{self.site}.out", out)


class Block(nn.Module):
    """Attention, in decoders attention to the sound, and an MLP, each added to the residual stream.

    With `norm="pre"` each part reads a normalised copy of the stream; with `"post"` the stream itself is normalised
    after each sum (the arrangement of the original transformer, and of wav2vec2-base).
    """

    def __init__(
        self,
        site: str,
        d_model: int,
        n_heads: int,
        d_mlp: int,
        *,
        norm: Literal["pre", "post"] = "pre",
        activation: str = "gelu",
        key_bias: bool = True,
        cross: bool = False,
        gate: nn.Module | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.site = site
        self.norm = norm
        self.attn = Attention(f"{site}.attn", d_model, n_heads, key_bias=key_bias, gate=gate)
        self.norm_attn = nn.LayerNorm(d_model, eps=eps)
        self.cross = Attention(f"{site}.cross", d_model, n_heads, key_bias=key_bias) if cross else None
        self.norm_cross = nn.LayerNorm(d_model, eps=eps) if cross else None
        self.mlp = MLP(f"{site}.mlp", d_model, d_mlp, activation)
        self.norm_mlp = nn.LayerNorm(d_model, eps=eps)

    def forward(
        self,
        x: Tensor,
        *,
        bias: ScoreBias | None = None,
        causal: bool = False,
        sound: Tensor | None = None,
        memory: tuple[KeyValues, KeyValues] | None = None,
    ) -> Tensor:
        """Return the stream after the block, `[b, t, d]`."""
        own, of_sound = memory or (None, None)
        x = tap(f"{self.site}.resid_pre", x)
        read = self.norm_attn(x) if self.norm == "pre" else x
        x = tap(f"{self.site}.resid_mid", x + self.attn(read, bias=bias, causal=causal, memory=own))
        if self.norm == "post":
            x = tap(f"{self.site}.mlp.in", self.norm_attn(x))
            x = tap(f"{self.site}.resid_sum", x + self.mlp(x))
            return tap(f"{self.site}.resid_post", self.norm_mlp(x))
        if self.cross is not None and self.norm_cross is not None:
            heard = self.cross(self.norm_cross(x), sound=sound, memory=of_sound)
            x = tap(f"{self.site}.resid_cross", x + heard)
        return tap(f"{self.site}.resid_post", x + self.mlp(tap(f"{self.site}.mlp.in", self.norm_mlp(x))))


def sinusoids(length: int, d_model: int, max_timescale: float = 10000.0) -> Tensor:
    """Return the fixed positions `[length, d]` of Whisper's encoder: sines, then cosines."""
    half = d_model // 2
    rates = torch.exp(-torch.log(torch.tensor(max_timescale)) / (half - 1) * torch.arange(half))
    angles = torch.arange(length)[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
