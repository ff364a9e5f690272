"""The one attention function of all models: fused where nobody looks, in three visible steps where somebody does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.models.networks.arithmetic import multiplies, product
from otoscope.models.networks.taps import Tape, current_tape

_QUERIES_AT_ONCE = 250
"""Query frames per product: few enough for their logits to stay in the processor's cache."""
_SMALL_QUERIES = 32  # below this many queries the fused kernel wins


class ScoreBias(Protocol):
    """What is added to the scaled scores: relative positions, made block by block so that no map is stored."""

    def block(self, row: int, head: int, queries: slice) -> Tensor:
        """Return the bias `[q, k]` of some queries of one head in one row of the batch."""

    def whole(self) -> Tensor:
        """Return the bias `[b or 1, h, q, k]`."""


def attend(
    site: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    n_heads: int,
    *,
    bias: ScoreBias | None = None,
    causal: bool = False,
    position: int = 0,
) -> Tensor:
    """Attention from `q [b, q, d]` to `k` and `v [b, k, d]`, heads side by side; returns `z [b, q, d]`.

    `site` is the prefix of its sites, e.g. `encoder.2.attn`. With `causal`, query i sees the keys up to
    `position + i`. Scores and patterns are made visible only for a call that reads, watches or edits them; z is the
    same either way (to the bit, on a CPU without gradients and with many queries).
    """
    tape = current_tape()
    b = max(len(q), len(k), len(v), tape.n_rows if tape is not None and _parts(tape, site) else 1)
    if bias is not None and 1 == min(len(q), len(k), len(v)) < b:
        bias = _OneForAll(bias)
    query, key, value = (_by_heads(part.expand(b, -1, -1), n_heads) for part in (q, k, v))
    if q.device.type == "cpu" and not multiplies(q.dtype):
        query, key, value = query.float(), key.float(), value.float()
    query = query * (query.shape[-1] ** -0.5)
    if not _is_fused(query, causal):  # the fused kernel reads the keys of a long memory as they lie
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    if tape is not None and (tape.concerns(f"{site}.scores") or tape.concerns(f"{site}.pattern")):
        attention = _differentiable if torch.is_grad_enabled() else _visible
        z = attention(tape, site, query, key, value, bias, causal, position)
    else:
        z = fast_attention(query, key, value, bias, causal=causal, position=position)
    return z.reshape(b, *q.shape[1:]).to(q.dtype)


def _parts(tape: Tape, site: str) -> bool:
    """Whether the rows of a sweep part at the scores or the pattern (see `Tape`)."""
    return tape.parts(f"{site}.scores") or tape.parts(f"{site}.pattern")


class _OneForAll:
    """The bias of the one row from which all rows of a sweep part."""

    def __init__(self, bias: ScoreBias) -> None:
        self._bias = bias

    def block(self, row: int, head: int, queries: slice) -> Tensor:
        return self._bias.block(0, head, queries)

    def whole(self) -> Tensor:
        return self._bias.whole()


def _by_heads(x: Tensor, n_heads: int) -> Tensor:
    """`[b, t, d]` → `[b, h, t, d / h]`."""
    b, t, d = x.shape
    return x.view(b, t, n_heads, d // n_heads).transpose(1, 2)


def fast_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: ScoreBias | None = None,
    *,
    causal: bool = False,
    position: int = 0,
) -> Tensor:
    """Attention of scaled queries `[b, h, q, d]`, returned as `[b, q, h, d]`.

    On a CPU, long ones are computed by head and in blocks, which beats the fused kernel.
    """
    n_queries = query.shape[2]
    if _is_fused(query, causal):
        mask = bias.whole().to(query.dtype) if bias is not None else None
        is_causal = causal and n_queries > 1 and position == 0
        if causal and n_queries > 1 and position > 0:
            mask = _future(n_queries, key.shape[2], position, query)
        z = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal, scale=1.0)
        return z.transpose(1, 2).contiguous()
    z = _empty_z(query)
    room = query.new_empty(min(n_queries, _QUERIES_AT_ONCE), key.shape[2])
    for row, head, block in _blocks(query):
        chosen, heard = query[row, head, block], z[row, block, head]
        scores = product(chosen, key[row, head], out=room[: len(chosen)])
        if bias is not None:
            scores += bias.block(row, head, block)
        torch.softmax(scores, -1, out=scores)
        result = product(scores, value[row, head].T, out=heard)
        if result is not heard:
            heard.copy_(result)
    return z


def _is_fused(query: Tensor, causal: bool) -> bool:
    """Whether torch's fused kernel computes this attention: it wins but for long ones on a CPU."""
    on_cpu = query.device.type == "cpu"
    return not on_cpu or torch.is_grad_enabled() or causal or query.shape[2] < _SMALL_QUERIES


def _visible(
    tape: Tape,
    site: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: ScoreBias | None,
    causal: bool,
    position: int,
) -> Tensor:
    """Attention whose scores and patterns pass the tape block by block; only what was asked for is kept.

    Blocks are computed as `fast_attention` computes them; where it leaves that to the fused kernel, so does this for
    every query of every head that no edit has changed. So z differs only by what edits do.
    """
    b, h, n_queries, _ = query.shape
    shape = (b, h, n_queries, key.shape[2])
    fused = _is_fused(query, causal)
    z = fast_attention(query, key, value, bias, causal=causal, position=position) if fused else _empty_z(query)
    for row in range(b):
        for first in range(0, n_queries, _QUERIES_AT_ONCE):
            block = slice(first, min(n_queries, first + _QUERIES_AT_ONCE))
            scores = torch.stack([product(query[row, head, block], key[row, head]) for head in range(h)])
            if bias is not None:
                scores += torch.stack([bias.block(row, head, block) for head in range(h)])
            hidden = _hidden(scores, position + first) if causal else None
            if hidden is not None:
                scores = scores.masked_fill(hidden, -torch.inf)
            seen = tape.visit_block(f"{site}.scores", scores, row, first, shape, hidden)
            plain = seen.softmax(-1)
            pattern = tape.visit_block(f"{site}.pattern", plain, row, first, shape, hidden)
            for head in range(h):
                heard = product(pattern[head], value[row, head].T)
                if fused:
                    changed = ((seen[head] != scores[head]) | (pattern[head] != plain[head])).any(-1, keepdim=True)
                    heard = torch.where(changed, heard, z[row, block, head])
                z[row, block, head] = heard
    tape.done(f"{site}.scores")
    tape.done(f"{site}.pattern")
    return z


def _differentiable(
    tape: Tape,
    site: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: ScoreBias | None,
    causal: bool,
    position: int,
) -> Tensor:
    """The same with whole maps, so that gradients flow through what the tape reads and edits."""
    scores = query @ key.transpose(2, 3)
    if bias is not None:
        scores = scores + bias.whole().to(scores.dtype)
    hidden = _hidden(scores, position) if causal else None
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    scores = tape.visit_map(f"{site}.scores", scores, hidden)
    pattern = tape.visit_map(f"{site}.pattern", scores.softmax(-1), hidden)
    tape.done(f"{site}.scores")
    tape.done(f"{site}.pattern")
    return (pattern @ value).transpose(1, 2)


def _hidden(scores: Tensor, position: int) -> Tensor:
    """`[q, k]`: which keys lie after the query, when the first one is number `position`."""
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(position + 1)


def _future(n_queries: int, n_keys: int, position: int, like: Tensor) -> Tensor:
    """`[q, k]`: minus infinity where a key lies after the query, 0 elsewhere."""
    mask = torch.full((n_queries, n_keys), -torch.inf, dtype=like.dtype, device=like.device)
    return mask.triu(position + 1)


def _empty_z(query: Tensor) -> Tensor:
    b, h, n_queries, d = query.shape
    return query.new_empty(b, n_queries, h, d)


def _blocks(query: Tensor) -> Iterator[tuple[int, int, slice]]:
    """Yield `(row, head, query frames)` of the products that make up one attention."""
    for row in range(query.shape[0]):
        for head in range(query.shape[1]):
            for start in range(0, query.shape[2], _QUERIES_AT_ONCE):
                yield row, head, slice(start, start + _QUERIES_AT_ONCE)
