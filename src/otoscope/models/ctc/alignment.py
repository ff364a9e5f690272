"""Connectionist temporal classification (Graves et al. 2006): from a distribution per frame to tokens, and back.

A path has one label per frame; runs of one label count once and blanks separate. Here only the single most probable
path matters: `ctc_greedy` reads off the one that is free, `ctc_align` finds the one that spells given tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor

from otoscope.errors import InputError


@dataclass(frozen=True)
class Aligned:
    """One token on the best path: it holds the frames `first_frame <= t < stop_frame`."""

    id: int
    first_frame: int
    stop_frame: int
    log_prob: float
    """Sum of the token's log-probabilities (natural) over its frames; blanks beside it do not count."""


def ctc_align(log_probs: Tensor | np.ndarray, ids: Sequence[int], blank: int) -> list[Aligned]:
    """Return where the most probable path that spells `ids` puts each of them (Viterbi).

    `log_probs [t, v]` are natural logarithms, a row per frame. Time and memory grow with `t · len(ids)`.

    Raises:
        InputError: tokens outside the vocabulary or the blank itself, fewer frames than any path needs, or no path
            of a probability above zero.
    """
    rows = _rows(log_probs)
    labels = _with_blanks(ids, blank, rows.shape[1])
    if not ids:
        return []
    repeats = sum(1 for one, two in pairwise(ids) if one == two)
    if len(rows) < len(ids) + repeats:
        raise InputError(f"{len(ids)} tokens need at least {len(ids) + repeats} frames, but there are {len(rows)}.")
    path = _best_path(rows, labels, blank)
    return [_held(rows, path, 2 * number + 1, token) for number, token in enumerate(ids)]


def ctc_greedy(log_probs: Tensor | np.ndarray, blank: int) -> list[Aligned]:
    """Return the tokens of the most probable path of all: each frame's best label, runs joined, blanks left out."""
    rows = _rows(log_probs)
    best = rows.argmax(1)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    stops = np.append(starts[1:], len(best))
    runs = [(int(best[first]), int(first), int(stop)) for first, stop in zip(starts, stops, strict=True)]
    return [
        Aligned(token, first, stop, float(rows[first:stop, token].sum()))
        for token, first, stop in runs
        if token != blank
    ]


def _rows(log_probs: Tensor | np.ndarray) -> np.ndarray:
    rows = log_probs.detach().cpu().double().numpy() if isinstance(log_probs, Tensor) else np.asarray(log_probs, float)
    if rows.ndim != 2:
        raise InputError(f"Log-probabilities have shape [t, v], not {rows.shape}.")
    if np.isnan(rows).any():
        raise InputError("The log-probabilities contain NaN.")
    return rows


def _with_blanks(ids: Sequence[int], blank: int, n_vocab: int) -> np.ndarray:
    """`[2 n + 1]`: the tokens with a blank before, between and after them."""
    for token in (*ids, blank):
        if not 0 <= token < n_vocab:
            raise InputError(f"There is no token {token}; the vocabulary has 0 to {n_vocab - 1}.")
    if blank in ids:
        raise InputError(f"The blank ({blank}) is no token that can be aligned.")
    labels = np.full(2 * len(ids) + 1, blank)
    labels[1::2] = ids
    return labels


def _best_path(rows: np.ndarray, labels: np.ndarray, blank: int) -> np.ndarray:
    """Return the index into `labels` of each frame, `[t]`, on the most probable path."""
    n_frames, n_states = len(rows), len(labels)
    may_skip = np.zeros(n_states, bool)
    may_skip[2:] = (labels[2:] != blank) & (labels[2:] != labels[:-2])
    total = np.full(n_states + 2, -np.inf)  # two impossible states in front, so that steps need no bounds
    total[2:4] = rows[0, labels[:2]]
    came = np.zeros((n_frames, n_states), np.int8)
    for t in range(1, n_frames):
        stay, step = total[2:], total[1:-1]
        skip = np.where(may_skip, total[:-2], -np.inf)
        best = np.maximum(stay, step)
        came[t] = np.where(skip > best, 2, step > stay)
        total[2:] = np.maximum(best, skip) + rows[t, labels]
    state = n_states - 1 if total[-1] > total[-2] else n_states - 2
    if total[2 + state] == -np.inf:
        raise InputError("No path spells these tokens with a probability above zero.")
    path = np.empty(n_frames, int)
    for t in range(n_frames - 1, -1, -1):
        path[t] = state
        state -= int(came[t, state])
    return path


def _held(rows: np.ndarray, path: np.ndarray, state: int, token: int) -> Aligned:
    """The token of one state with its frames (a path never goes back, so they are found by bisection)."""
    first, stop = (int(edge) for edge in np.searchsorted(path, [state, state + 1]))
    return Aligned(token, first, stop, float(rows[first:stop, token].sum()))
