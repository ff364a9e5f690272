"""How likely given tokens are: the same rules as in decoding, with the text forced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from otoscope.models.generation.steps import RowEdits, Steps
from otoscope.models.generation.token_rules import TokenRules


def score(
    module: Any,
    rules: TokenRules,
    encoded: Tensor,
    prompt: Sequence[int],
    ids: Sequence[int],
    edits: RowEdits | None = None,
) -> list[list[float]]:
    """Return the log-probability of each of `ids` after `prompt`, for each window of `encoded [b, t, d]`.

    The rows of the batch may be one window under different edits.
    """
    if not ids:
        return [[] for _ in range(len(encoded))]
    fed = torch.tensor([[*prompt, *ids]] * len(encoded), device=encoded.device)
    with torch.no_grad():
        logits = Steps(module, encoded, edits).all_logits(fed)[:, len(prompt) - 1 : -1]
        written = fed[:, len(prompt) :]
        columns = []
        for count in range(len(ids)):
            here = logits[:, count].clone()
            rules.apply(here, written[:, :count])
            columns.append(here.log_softmax(-1).gather(1, written[:, count : count + 1])[:, 0])
    scores: list[list[float]] = torch.stack(columns, 1).tolist()
    return scores
