"""Connectionist temporal classification (Graves et al. 2006): from a distribution per frame to tokens, and back.

A path has one label per frame; runs of one label count once and blanks separate. Here only the single most probable
path matters: `ctc_greedy` reads off the one that is free, `ctc_align` finds the one that spells given tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.clock import Clock
from otoscope.models.generation import Token, Transcript, is_looped
from otoscope.models.letters import LetterTokenizer

Heard = Iterable[tuple[float, Tensor]]
"""For each window of a clip: when it begins in the clip, and what it hears, log-probabilities `[t, v]`."""


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


def spell(heard: Heard, tokenizer: LetterTokenizer, clock: Clock, uri: str, clip_id: str) -> Transcript:
    """Write down what is heard: the most probable path, special tokens left out, a time for every token.

    A token's `log_prob` is summed over the frames that it holds (see `Aligned`); `avg_log_prob` is the mean over all
    frames, blanks included.
    """
    tokens: list[Token] = []
    texts: list[str] = []
    total, n_frames = 0.0, 0
    for window, (start_s, log_probs) in enumerate(heard):
        here = [one for one in ctc_greedy(log_probs, tokenizer.blank) if one.id not in tokenizer.special_ids]
        texts.append(tokenizer.decode([one.id for one in here]).strip())
        tokens += [_token(one, tokenizer, clock, window, start_s) for one in here]
        total += float(log_probs.max(-1).values.double().sum())
        n_frames += len(log_probs)
    return Transcript(
        uri=uri,
        clip_id=clip_id,
        text=" ".join(text for text in texts if text),
        language=None,
        tokens=tokens,
        avg_log_prob=total / n_frames if n_frames else math.nan,
        no_speech_prob=0.0,
        looped=is_looped([token.id for token in tokens]),
    )


def score_spelling(heard: Heard, tokenizer: LetterTokenizer, transcript: Transcript) -> list[float]:
    """Return the log-probability of each token of a transcript, forced: summed over the frames that the most probable
    path which spells the transcript gives it (see `Aligned`).

    What `spell` wrote gets its own `log_prob` again, unless special tokens were left out.

    Raises:
        InputError: the sound is too short for the tokens, or has fewer windows than the transcript.
    """
    scores: list[float] = []
    n_windows = 0
    for window, (_, log_probs) in enumerate(heard):
        ids = [token.id for token in transcript.tokens if token.window == window]
        scores += [one.log_prob for one in ctc_align(log_probs, ids, tokenizer.blank)]
        n_windows += 1
    if any(token.window >= n_windows for token in transcript.tokens):
        raise InputError(f"The transcript has more windows than the clip's {n_windows}; it belongs to another clip.")
    return scores


def refuse_options(model: str, **options: Any) -> None:
    """Refuse what only text decoders understand.

    Raises:
        InputError: an option is not None.
    """
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{model} writes the letter of each frame (CTC) and knows no {name}; leave out {value!r}.")


def _token(one: Aligned, tokenizer: LetterTokenizer, clock: Clock, window: int, start_s: float) -> Token:
    """An aligned token with its times in the clip: each frame reaches half a hop around its centre."""
    half_s = clock.frame_s / 2
    first_s = start_s + max(0.0, clock.time_s(one.first_frame) - half_s)
    last_s = start_s + clock.time_s(one.stop_frame - 1) + half_s
    return Token(one.id, tokenizer.decode([one.id]), one.log_prob, window, first_s, last_s)


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
