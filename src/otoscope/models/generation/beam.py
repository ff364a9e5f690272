"""Beam search: several hypotheses side by side, the likeliest kept."""

from __future__ import annotations

import torch
from torch import Tensor

from otoscope.models.generation.choosing import Hypothesis, entropy
from otoscope.models.generation.steps import Steps
from otoscope.models.generation.token_rules import TokenRules


def search(
    steps: Steps, logits: Tensor, rules: TokenRules, n_tokens: int, beam_size: int, patience: float
) -> list[list[Hypothesis]]:
    """Return the finished hypotheses of each window, in the order in which they ended.

    The `beam_size` rows of a window follow one another in `logits [b · beam, v]`. The search ends when every window
    has `beam_size · patience` finished ones; where there are fewer at the end, unfinished ones fill up.

    Source: `whisper.decoding.BeamSearchDecoder`; patience: Kasai et al. 2022.
    """
    n_windows = len(logits) // beam_size
    wanted = round(beam_size * patience)
    live = [Hypothesis() for _ in range(len(logits))]
    finished: list[list[Hypothesis]] = [[] for _ in range(n_windows)]
    for count in range(n_tokens):
        written = torch.tensor([row.ids for row in live], dtype=torch.long, device=logits.device)
        rules.apply(logits, written.view(len(live), count))
        candidates = _candidates(live, logits, beam_size + 1)
        going_on: list[tuple[Hypothesis, int]] = []
        for window, ended in enumerate(finished):
            mine = range(window * beam_size, (window + 1) * beam_size)
            kept, newly = _best([candidates[row] for row in mine], mine.start, beam_size, rules.end)
            going_on += kept
            ended += newly[: wanted - len(ended)]
        live = [hypothesis for hypothesis, _ in going_on]
        steps.reorder([row for _, row in going_on])
        if all(len(ended) >= wanted for ended in finished) or count == n_tokens - 1:
            break
        logits = steps(torch.tensor([[row.ids[-1]] for row in live], device=logits.device))
    for window, ended in enumerate(finished):
        unfinished = live[window * beam_size : (window + 1) * beam_size]
        ended += sorted(unfinished, key=lambda row: row.total, reverse=True)[: max(0, beam_size - len(ended))]
    return finished


def _candidates(live: list[Hypothesis], logits: Tensor, n: int) -> list[list[Hypothesis]]:
    """Each row's n likeliest continuations, the likeliest first."""
    log_p = logits.log_softmax(-1)
    totals = torch.tensor([row.total for row in live], dtype=torch.float32, device=logits.device)
    values, tokens = log_p.topk(n)
    sums = (totals[:, None] + values).tolist()  # in float32, as openai-whisper adds them up
    rows = zip(live, tokens.tolist(), values.tolist(), sums, entropy(log_p).tolist(), strict=True)
    return [
        [
            Hypothesis((*row.ids, token), (*row.log_probs, value), (*row.entropies, spread), total)
            for token, value, total in zip(row_tokens, row_values, row_sums, strict=True)
        ]
        for row, row_tokens, row_values, row_sums, spread in rows
    ]


def _best(
    candidates: list[list[Hypothesis]], first_row: int, beam_size: int, end: int
) -> tuple[list[tuple[Hypothesis, int]], list[Hypothesis]]:
    """The `beam_size` likeliest that go on, with the row each goes on from, and the likelier ones that end here."""
    by_ids = {each.ids: (each, first_row + row) for row, of_row in enumerate(candidates) for each in of_row}
    kept: list[tuple[Hypothesis, int]] = []
    ended: list[Hypothesis] = []
    for each, row in sorted(by_ids.values(), key=lambda item: item[0].total, reverse=True):
        if each.ids[-1] == end:
            ended.append(each)
            continue
        kept.append((each, row))
        if len(kept) == beam_size:
            break
    return kept, ended


def best_ranked(hypotheses: list[Hypothesis], end: int, length_penalty: float | None) -> Hypothesis:
    """Return the hypothesis with the highest log-probability for its length (`length_penalty`: Wu et al. 2016)."""

    def rank(each: Hypothesis) -> float:
        length = len(each.ids) - (end in each.ids)
        divisor = max(1, length) if length_penalty is None else ((5 + length) / 6) ** length_penalty
        return each.total / divisor

    return max(hypotheses, key=rank)
