"""The one attention function of tapped models, registered with transformers under the name `otoscope`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from otoscope.models.arithmetic import product
from otoscope.models.taps import Tape, current_tape

NAME = "otoscope"
_SITE = "otoscope_attention_site"
_QUERIES_AT_ONCE = 500
"""Query frames per product: few enough for their logits to stay in the processor's cache."""


def name_attention(module: nn.Module, name: str) -> None:
    """Tell the attention function at which site `module` stands (encoder modules carry no layer index)."""
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
    """Attention from `query [b, h, q, d]` to `key` and `value [b, h, k, d]`; returns `z [b, q, h, d]`.

    Modules without a name (the decoder's) get transformers' own SDPA. Named ones read everything, without a
    mask; scores and patterns are kept only for a call that reads or edits them, and z is the same either way
    (to the bit on a CPU).
    """
    site: str | None = getattr(module, _SITE, None)
    if site is None:
        z, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return z, None
    if scaling is not None and scaling != 1.0:
        query = query * scaling
    tape = current_tape()
    if tape is not None and (tape.concerns(f"{site}.scores") or tape.concerns(f"{site}.pattern")):
        return _visible_attention(tape, site, query, key, value), None
    return fast_attention(query, key, value), None


def fast_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of scaled queries to all keys; on a CPU by head and in blocks, which beats the fused kernel."""
    if query.device.type != "cpu" or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2).contiguous()
    z = _empty_z(query)
    for row, head, block in _blocks(query):
        pattern = product(query[row, head, block], key[row, head]).softmax(-1)
        z[row, block, head] = product(pattern, value[row, head].T)
    return z


def _visible_attention(tape: Tape, site: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The same in three steps, with `[b, h, q, k]` scores and patterns that the tape sees and may change."""
    scores = query.new_empty(*query.shape[:3], key.shape[2])
    for row, head, block in _blocks(query):
        scores[row, head, block] = product(query[row, head, block], key[row, head])
    scores = tape.visit(f"{site}.scores", scores)
    pattern = tape.visit(f"{site}.pattern", scores.softmax(-1))
    z = _empty_z(query)
    for row, head, block in _blocks(query):
        z[row, block, head] = product(pattern[row, head, block], value[row, head].T)
    return z


def _empty_z(query: Tensor) -> Tensor:
    b, h, q, d = query.shape
    return query.new_empty(b, q, h, d)


def _blocks(query: Tensor) -> Iterator[tuple[int, int, slice]]:
    """Yield `(row, head, query frames)` of the products that make up one attention."""
    for row in range(query.shape[0]):
        for head in range(query.shape[1]):
            for start in range(0, query.shape[2], _QUERIES_AT_ONCE):
                yield row, head, slice(start, start + _QUERIES_AT_ONCE)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
