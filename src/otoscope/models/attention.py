"""The one attention function of tapped models, registered with transformers under the name `otoscope`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from otoscope.models.taps import Tape, current_tape

NAME = "otoscope"
_SITE = "otoscope_attention_site"


def name_attention(module: nn.Module, name: str) -> None:
    """Tell the attention function which site `module` is (encoder modules carry no layer index of their own)."""
    setattr(module, _SITE, name)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention from `query [b, h, q, d]` to `key`, `value [b, h, k, d]`; returns `z [b, q, h, d]`.

    Scores and patterns are materialised only for a call that reads or edits them.
    """
    site: str | None = getattr(module, _SITE, None)
    if site is None:
        z, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return z, None
    if scaling is not None and scaling != 1.0:
        query = query * scaling
    tape = current_tape()
    if tape is not None and (tape.concerns(f"{site}.scores") or tape.concerns(f"{site}.pattern")):
        z = _explicit(tape, site, query, key, value)
    else:
        z = fast_attention(query, key, value)
    return z, None


def _explicit(tape: Tape, site: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention in its three steps, each visible to the tape."""
    scores = torch.stack(
        [torch.stack([q @ k.T for q, k in zip(*row, strict=True)]) for row in zip(query, key, strict=True)]
    )
    scores = tape.visit(f"{site}.scores", scores)
    pattern = tape.visit(f"{site}.pattern", scores.softmax(-1))
    return torch.stack(
        [torch.stack([p @ v for p, v in zip(*row, strict=True)], 1) for row in zip(pattern, value, strict=True)]
    )


def fast_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Full attention of already scaled queries, head by head on a CPU: faster than the fused kernel there."""
    if query.device.type != "cpu" or torch.is_grad_enabled():
        z = nn.functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return z.transpose(1, 2).contiguous()
    b, h, q, d = query.shape
    z = query.new_empty(b, q, h, d)
    for row in range(b):
        for head in range(h):
            pattern = (query[row, head] @ key[row, head].T).softmax(-1)
            z[row, :, head] = pattern @ value[row, head]
    return z


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
