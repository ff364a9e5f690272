"""Choosing one token after another, greedily or by sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.models.generation.steps import Steps
from otoscope.models.generation.token_rules import TokenRules


@dataclass(frozen=True)
class Hypothesis:
    """What may have been said: tokens with their log-probabilities and entropies, the end token included if met."""

    ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()
    total: float = 0.0
    """Sum of the log-probabilities."""


def choose(
    steps: Steps,
    logits: Tensor,
    rules: TokenRules,
    n_tokens: int,
    temperature: float,
    generators: Sequence[torch.Generator],
) -> list[Hypothesis]:
    """Go on from the first scores `logits [b, v]` for up to `n_tokens`, every row until its end token.

    At temperature 0 the likeliest token is taken; above, row i draws with `generators[i]`. Log-probabilities are
    those at temperature 1, after the rules.
    """
    device = logits.device
    written = torch.empty((len(logits), 0), dtype=torch.long, device=device)
    ended = torch.zeros(len(logits), dtype=torch.bool, device=device)
    log_probs: list[Tensor] = []
    entropies: list[Tensor] = []
    for count in range(n_tokens):
        rules.apply(logits, written)
        log_p = logits.log_softmax(-1)
        token = log_p.argmax(-1) if temperature == 0 else _drawn(log_p, temperature, generators)
        log_probs.append(log_p.gather(1, token[:, None])[:, 0])
        entropies.append(entropy(log_p))
        written = torch.cat([written, token.masked_fill(ended, rules.end)[:, None]], 1)
        ended |= token == rules.end
        if bool(ended.all()) or count == n_tokens - 1:
            break
        logits = steps(written[:, -1:])
    if not log_probs:
        return [Hypothesis() for _ in range(len(logits))]
    rows = zip(written.tolist(), torch.stack(log_probs, 1).tolist(), torch.stack(entropies, 1).tolist(), strict=True)
    return [_until_end(ids, row_probs, row_entropies, rules.end) for ids, row_probs, row_entropies in rows]


def entropy(log_p: Tensor) -> Tensor:
    """Return the entropy in nats `[b]` of distributions given as log-probabilities `[b, v]`."""
    # the clamp makes 0 · log 0 count 0
    return -(log_p.exp() * log_p.clamp(min=-1e4)).sum(-1)


def _drawn(log_p: Tensor, temperature: float, generators: Sequence[torch.Generator]) -> Tensor:
    # drawn on the CPU, row by row, so that a clip gets the same text on every device and in every batch
    probabilities = (log_p / temperature).softmax(-1).cpu()
    drawn = [torch.multinomial(row, 1, generator=own) for row, own in zip(probabilities, generators, strict=True)]
    return torch.cat(drawn).to(log_p.device)


def _until_end(ids: list[int], log_probs: list[float], entropies: list[float], end: int) -> Hypothesis:
    stop = ids.index(end) + 1 if end in ids else len(ids)
    return Hypothesis(tuple(ids[:stop]), tuple(log_probs[:stop]), tuple(entropies[:stop]), sum(log_probs[:stop]))
