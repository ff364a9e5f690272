"""What may be said in which order: a graph of states for words, pronunciations and pauses, and its best path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numba
import numpy as np

from otoscope.errors import InputError, OtoscopeError

MOST_CELLS = 2**30
"""Frames × states that one clip may have: a byte each."""

NO_PRED = 255


class Segment(NamedTuple):
    """One phone (or pause) in a graph: which word it belongs to (−1: none), and what it is."""

    word: int
    phone: str


class Stretch(NamedTuple):
    """What the best path spends from frame `first` up to, not including, `stop` on."""

    segment: Segment
    first: int
    stop: int


@dataclass(frozen=True, eq=False)
class Lattice:
    """States in an order in which every step leads onward; each state eats a frame, and may stay where `loops`.

    `emits [s]` is the column of the scores that a state reads; predecessors of state s are
    `preds[starts[s]:starts[s + 1]]`, with the scores of the steps in `steps`. `first` and `final` are the scores for
    beginning and ending in a state (−inf where a path may not). `owner [s]` says whose segment a state is part of.
    """

    emits: np.ndarray
    loops: np.ndarray
    starts: np.ndarray
    preds: np.ndarray
    steps: np.ndarray
    first: np.ndarray
    final: np.ndarray
    owner: np.ndarray
    segments: tuple[Segment, ...]

    def best_path(self, scores: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the score of the best path through `scores [t, c]` and its state of each frame, `[t]`.

        Raises:
            OtoscopeError: no path fits (too few frames for what must be said).
            InputError: the clip is too long.
        """
        n_frames, n_states = len(scores), len(self.emits)
        if n_frames * n_states > MOST_CELLS:
            raise InputError(
                f"{n_frames:,} frames of {n_states:,} states are too long to align in one piece; cut the clip into "
                "phrases."
            )
        if not n_frames:
            raise OtoscopeError("There are no frames to align.")
        score, path = _viterbi(
            np.ascontiguousarray(scores, dtype=np.float64),
            self.emits,
            self.loops,
            self.starts,
            self.preds,
            self.steps,
            self.first,
            self.final,
        )
        if not np.isfinite(score):
            raise OtoscopeError(f"{n_frames} frames are too few for the {self.shortest()} that the text needs.")
        return float(score), path

    def shortest(self) -> int:
        """Return the fewest frames that a path can have."""
        distance = np.where(np.isfinite(self.first), 1, np.iinfo(np.int64).max // 2)
        for state in range(len(self.emits)):
            for pred in self.preds[self.starts[state] : self.starts[state + 1]]:
                distance[state] = min(distance[state], distance[pred] + 1)
        return int(distance[np.isfinite(self.final)].min())

    def stretches(self, path: np.ndarray) -> list[Stretch]:
        """Return the segments of a path, in order."""
        owners = self.owner[path]
        cuts = np.flatnonzero(np.diff(owners)) + 1
        edges = [0, *cuts.tolist(), len(path)]
        return [Stretch(self.segments[int(owners[first])], first, stop) for first, stop in pairwise(edges)]


class Builder:
    """Grows a lattice: `front` is where a path may be after what was added last."""

    def __init__(self) -> None:
        self.emits: list[int] = []
        self.loops: list[bool] = []
        self.preds: list[list[tuple[int, float]]] = []
        self.first: list[float] = []
        self.owner: list[int] = []
        self.segments: list[Segment] = []
        self.front: list[tuple[int, float]] = [(-1, 0.0)]
        """Pairs of a state (−1: the start) and the score of leaving it."""

    def chain(
        self, segment: Segment, columns: Sequence[int], loops: Sequence[bool], front: list[tuple[int, float]]
    ) -> list[tuple[int, float]]:
        """Append one segment's states after `front` and return the front behind it."""
        self.segments.append(segment)
        before = front
        for column, loop in zip(columns, loops, strict=True):
            state = len(self.emits)
            self.emits.append(column)
            self.loops.append(loop)
            self.owner.append(len(self.segments) - 1)
            self.first.append(max((score for pred, score in before if pred < 0), default=-np.inf))
            self.preds.append([(pred, score) for pred, score in before if pred >= 0])
            before = [(state, 0.0)]
        return before

    def finish(self) -> Lattice:
        """Return the lattice; a path may end wherever the front is.

        Raises:
            InputError: more than 254 states lead to one.
        """
        final = np.full(len(self.emits), -np.inf)
        for state, score in self.front:
            if state >= 0:
                final[state] = max(final[state], score)
        if max(map(len, self.preds), default=0) >= NO_PRED - 1:
            raise InputError("A word has more than 250 pronunciations; leave some out of the lexicon.")
        flat = [pair for pairs in self.preds for pair in pairs]
        return Lattice(
            emits=np.array(self.emits, dtype=np.int64),
            loops=np.array(self.loops, dtype=np.bool_),
            starts=np.cumsum([0, *map(len, self.preds)]).astype(np.int64),
            preds=np.array([pred for pred, _ in flat], dtype=np.int64),
            steps=np.array([score for _, score in flat], dtype=np.float64),
            first=np.array(self.first, dtype=np.float64),
            final=final,
            owner=np.array(self.owner, dtype=np.int64),
            segments=tuple(self.segments),
        )


def best_path_plainly(lattice: Lattice, scores: np.ndarray) -> tuple[float, list[int]]:
    """The same as `Lattice.best_path` by trying every path: the reference for tiny lattices (−inf if none fits)."""
    best: tuple[float, list[int]] = (-np.inf, [])

    def extend(path: list[int], score: float) -> None:
        nonlocal best
        state, frame = path[-1], len(path)
        if frame == len(scores):
            if score + lattice.final[state] > best[0]:
                best = (score + lattice.final[state], path)
            return
        for target in range(len(lattice.emits)):
            span = range(lattice.starts[target], lattice.starts[target + 1])
            steps = [lattice.steps[k] for k in span if lattice.preds[k] == state]
            if target == state and lattice.loops[state]:
                steps.append(0.0)
            if steps:
                extend([*path, target], score + max(steps) + scores[frame, lattice.emits[target]])

    for state in np.flatnonzero(np.isfinite(lattice.first)):
        extend([int(state)], lattice.first[state] + scores[0, lattice.emits[state]])
    return best


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _viterbi(
    scores: Any, emits: Any, loops: Any, starts: Any, preds: Any, steps: Any, first: Any, final: Any
) -> Any:  # pragma: no cover (compiled)
    n_frames, n_states = len(scores), len(emits)
    came = np.full((n_frames, n_states), 255, np.uint8)
    now = np.empty(n_states)
    for state in range(n_states):
        now[state] = first[state] + scores[0, emits[state]]
    after = np.empty(n_states)
    for frame in range(1, n_frames):
        for state in range(n_states):
            best = now[state] if loops[state] else -np.inf
            choice = 254
            for k in range(starts[state], starts[state + 1]):
                value = now[preds[k]] + steps[k]
                if value > best:
                    best = value
                    choice = k - starts[state]
            after[state] = best + scores[frame, emits[state]]
            came[frame, state] = choice
        now, after = after, now
    end = -1
    best = -np.inf
    for state in range(n_states):
        if now[state] + final[state] > best:
            best = now[state] + final[state]
            end = state
    path = np.zeros(n_frames, np.int64)
    if end < 0:
        return best, path
    state = end
    for frame in range(n_frames - 1, -1, -1):
        path[frame] = state
        choice = came[frame, state]
        if choice < 254:
            state = preds[starts[state] + choice]
    return best, path
