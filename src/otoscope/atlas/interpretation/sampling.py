"""Which moments tell what a feature does: its events of every strength, and moments at which it is silent.

The voices are halved as they were for the labels of the atlas: cards are made of the half that chose labels,
explanations are tried on the half that scored them, so that no speaker is in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from otoscope.atlas.atlas import Atlas
from otoscope.atlas.interpretation.moments import Moment, Surroundings
from otoscope.audio import Corpus
from otoscope.errors import InputError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float32]

CARD, HELD_OUT = 0, 1
"""The halves of the voices."""
ACTIVE_SHARE = 0.1
"""A feature counts as active from this share of its maximum on."""
MAX_ACTIVE_FRAMES = 0.1
"""A feature that is active more often counts as active in this share of the frames only: the strongest."""
SPARSE_POSTINGS = 0.2
"""Where postings hold at most this share of the frames, a moment is silent if it is in none of them."""
MARGIN = 3
"""Frames around a silent moment in which the feature is silent, too."""
MAX_GAP = 1
"""Frames that an event may skip."""
MAX_EVENTS = 2000
"""Events of a feature that tables are made of, drawn at random where there are more."""
MAX_DRAWN = 5000
"""Active frames of which examples are drawn."""
N_LEVELS = 10


@dataclass(frozen=True)
class Events:
    """Stretches in which a feature is active; all `[e]`, in corpus order.

    `clip` is the clip's number, `first`, `peak` and `last` are frames counted from the first frame of the corpus.
    """

    clip: Ints
    first: Ints
    peak: Ints
    last: Ints
    value: Values

    def __len__(self) -> int:
        return len(self.clip)

    def __getitem__(self, which: Ints | Bools) -> Events:
        return Events(self.clip[which], self.first[which], self.peak[which], self.last[which], self.value[which])


class Chosen(NamedTuple):
    """Active moments; all `[m]`: the clip's number, the frame counted from the first of the corpus, and the value."""

    clip: Ints
    frame: Ints
    value: Values


class Frames:
    """The frames of an atlas's corpus, counted from the first one, with halves and surroundings.

    Raises:
        InputError: the corpus is not the one that the atlas was built over.
    """

    def __init__(self, atlas: Atlas, corpus: Corpus, seed: int = 0) -> None:
        if atlas.meta["corpus"]["fingerprint"] != corpus.fingerprint:
            raise InputError(
                f"Atlas {atlas.name!r} was built over another corpus than {corpus.name!r} as it is now; "
                f"give the corpus {atlas.meta['corpus']['name']!r}, or build the atlas again."
            )
        self.atlas, self.corpus, self.seed = atlas, corpus, seed
        self.surroundings = Surroundings(corpus)
        self.starts = np.asarray(atlas.clip_starts, dtype=np.int64)
        self.total = int(atlas.meta["n_frames"])
        self.counts = np.diff(self.starts, append=self.total)
        self.half = np.asarray(atlas.clips.half, dtype=np.int64)

    def of_clip(self, frames: Ints) -> Ints:
        """Return the number of the clip of each frame."""
        return np.asarray(np.searchsorted(self.starts, frames, side="right") - 1, dtype=np.int64)

    def time_s(self, clip: int, frame: int) -> float:
        """Return the moment of a frame in its clip, in seconds."""
        return self.atlas.clock.time_s(int(frame - self.starts[clip]))

    def moments(self, frames: Ints, values: Values | None = None) -> list[Moment]:
        """Describe frames; `values` are 0 where none are given."""
        clips = self.of_clip(frames)
        held = np.zeros(len(frames), dtype=np.float32) if values is None else values
        return [
            self.surroundings.moment(int(c), int(f - self.starts[c]), self.time_s(int(c), int(f)), float(v))
            for c, f, v in zip(clips, frames, held, strict=True)
        ]

    def rng(self, feature: int, purpose: int) -> np.random.Generator:
        """Return the random numbers of one purpose, the same in every run."""
        return np.random.default_rng([self.seed, feature, purpose])


class FeatureMoments:
    """The events of one feature, and where it is silent."""

    def __init__(self, frames: Frames, feature: int) -> None:
        self.frames, self.feature = frames, feature
        entry = frames.atlas[feature]
        clip, frame, value = entry.postings()
        at, stats = frames.starts[clip] + frame, entry.stats
        floor = max(ACTIVE_SHARE * float(stats["max"]), float(stats["postings_from"]))
        most = max(1, int(MAX_ACTIVE_FRAMES * frames.total))
        if (value > floor).sum() > most:
            floor = float(np.partition(value, len(value) - most)[len(value) - most])
        self.active_from = floor
        """Above this value the feature counts as active."""
        on = value > floor
        self.active: Ints = at[on]
        self.audible: Ints = at if len(at) <= SPARSE_POSTINGS * frames.total else self.active
        """Frames that are not silent: active, or with a weak value."""
        self._active_clip: Ints = clip[on].astype(np.int64)
        self._active_value: Values = value[on]
        self.all_events = _events(self._active_clip, self.active, self._active_value)

    def events(self, half: int, purpose: int = 0) -> Events:
        """Return its events in one half of the voices, at most `MAX_EVENTS` of them."""
        found = self.all_events[np.flatnonzero(self.frames.half[self.all_events.clip] == half)]
        if len(found) <= MAX_EVENTS:
            return found
        kept = self.frames.rng(self.feature, 100 + purpose).choice(len(found), MAX_EVENTS, replace=False)
        return found[np.sort(kept)]

    def n_events(self, half: int) -> int:
        """Return how many events it has in one half."""
        return int((self.frames.half[self.all_events.clip] == half).sum())

    @cached_property
    def silent(self) -> Silence:
        """Where it is silent."""
        return Silence(self.frames, self.audible)

    def across_levels(self, half: int, count: int, purpose: int) -> Chosen:
        """Return `count` active frames spread over ten levels of strength, as few as possible of one clip, strongest
        first.

        Levels are deciles of the active frames, as in Paulo et al. (2024), "Automatically Interpreting Millions of
        Features in Large Language Models".
        """
        rng = self.frames.rng(self.feature, purpose)
        at = np.flatnonzero(self.frames.half[self._active_clip] == half)
        if len(at) > MAX_DRAWN:
            at = np.sort(rng.choice(at, MAX_DRAWN, replace=False))
        if len(at) > count:
            levels = np.array_split(at[np.argsort(self._active_value[at], kind="stable")[::-1]], N_LEVELS)
            turns = [rng.permutation(level).tolist() for level in levels]
            at = np.array(_in_turn(turns, self._active_clip, count), dtype=np.int64)
        at = at[np.argsort(-self._active_value[at], kind="stable")]
        return Chosen(self._active_clip[at], self.active[at], self._active_value[at])

    def strongest(self, half: int, count: int) -> Chosen:
        """Return the strongest moments, one per clip."""
        events = self.events(half)
        order = np.argsort(-events.value, kind="stable")
        _, first = np.unique(events.clip[order], return_index=True)
        at = order[np.sort(first)[:count]]
        return Chosen(events.clip[at], events.peak[at], events.value[at])


class Silence:
    """Frames at which a feature is silent, and all frames around."""

    def __init__(self, frames: Frames, audible: Ints) -> None:
        self.frames, self.audible = frames, audible

    def holds(self, at: Ints) -> Bools:
        """Return at which of these frames the feature is silent, with `MARGIN` frames on either side."""
        low = np.searchsorted(self.audible, at - MARGIN)
        high = np.searchsorted(self.audible, at + MARGIN, side="right")
        return np.asarray(low == high, dtype=np.bool_)

    def anywhere(self, half: int, count: int, rng: np.random.Generator) -> Ints:
        """Return up to `count` silent frames of different clips where possible, every frame as likely as any other."""
        frames = self.frames
        clips = np.flatnonzero((frames.half == half) & (frames.counts > 0))
        if not len(clips):
            return np.zeros(0, dtype=np.int64)
        weight = frames.counts[clips] / frames.counts[clips].sum()
        drawn = rng.choice(clips, size=20 * count, p=weight)
        at = frames.starts[drawn] + (rng.random(len(drawn)) * frames.counts[drawn]).astype(np.int64)
        at = at[self.holds(at)]
        return _one_per_clip_first(at, frames.of_clip(at))[:count]

    def in_same_clip(self, clip: Ints, rng: np.random.Generator) -> Ints:
        """Return one silent frame of each of these clips (−1 where a few tries find none)."""
        frames = self.frames
        found = np.full(len(clip), -1, dtype=np.int64)
        for _ in range(20):
            at = frames.starts[clip] + (rng.random(len(clip)) * frames.counts[clip]).astype(np.int64)
            found = np.where((found < 0) & self.holds(at), at, found)
        return found


def _events(clip: Ints, at: Ints, value: Values) -> Events:
    """Join active frames (ascending) of a clip with at most `MAX_GAP` frames between them."""
    if not len(at):
        none = np.zeros(0, dtype=np.int64)
        return Events(none, none, none, none, np.zeros(0, dtype=np.float32))
    begins = np.concatenate(([True], (np.diff(at) > MAX_GAP + 1) | (np.diff(clip) != 0)))
    group = np.cumsum(begins) - 1
    starts = np.flatnonzero(begins)
    stops = np.append(starts[1:], len(at)) - 1
    peak = np.lexsort((-np.arange(len(at)), value, group))[stops]
    return Events(clip[starts], at[starts], at[peak], at[stops], value[peak])


def _in_turn(turns: list[list[int]], clip: Ints, count: int) -> list[int]:
    """Take one of each list in turn, first one whose clip is new, until there are `count`."""
    chosen: list[int] = []
    seen: set[int] = set()
    while len(chosen) < count and any(turns):
        for turn in turns:
            if turn and len(chosen) < count:
                fresh = next((i for i, each in enumerate(turn) if int(clip[each]) not in seen), 0)
                chosen.append(turn.pop(fresh))
                seen.add(int(clip[chosen[-1]]))
    return chosen


def _one_per_clip_first(at: Ints, clip: Ints) -> Ints:
    """Order frames so that those of clips not met yet come first."""
    _, first = np.unique(clip, return_index=True)
    fresh = np.zeros(len(at), dtype=np.bool_)
    fresh[first] = True
    return np.concatenate([at[fresh], at[~fresh]])
