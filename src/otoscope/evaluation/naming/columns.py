"""The labelled stretches of many clips at once, as arrays: an object for each would take longer than all that is done
with it.

A kind of label says for one clip which stretches it has; a `Reading` also says it for a run of clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from otoscope.audio import Clip, Interval
from otoscope.audio.tiers import PackedTiers, TierColumns, tier_columns

UNKNOWN, NONE, SOME = 0, 1, 2
"""What is known of a kind in a clip: nothing; that no class occurs; the stretches where classes do."""

Intervals = Callable[[Clip], tuple[Interval, ...] | None]
Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]
P = ParamSpec("P")
T = TypeVar("T")


class ClipRun:
    """Clips that are read together; what several kinds are made of is made once."""

    def __init__(self, clips: Iterable[Clip]) -> None:
        self.clips = tuple(clips)
        self._tiers = [clip.tiers for clip in self.clips if isinstance(clip.tiers, PackedTiers)]
        self._made: dict[tuple[object, ...], object] = {}

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def has_columns(self) -> bool:
        """False where a tier holds what an array does not keep exactly (whole numbers as times, say)."""
        return len(self._tiers) == len(self.clips)

    def once(self, make: Callable[Concatenate[ClipRun, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `make(self, …)`, made when it is asked for first."""
        key = (make, *args, *kwargs.items())
        if key not in self._made:
            self._made[key] = make(self, *args, **kwargs)
        return self._made[key]  # type: ignore[return-value]

    def tier(self, name: str) -> TierColumns:
        """Return the intervals of a tier."""
        return self.once(lambda _, name: tier_columns(self._tiers, name), name)


@dataclass(frozen=True)
class LabelColumns:
    """Labelled stretches of a run of clips, clip after clip; in a clip, later ones cover earlier ones.

    Attributes:
        known: `[b]` `UNKNOWN`, `NONE` or `SOME` of each clip.
        clip: `[r]` number of each stretch's clip, rising.
        start_s, end_s: `[r]` times in seconds.
        label: `[r]` number of its label in `labels`, which may name some twice and some that no stretch has.
    """

    known: npt.NDArray[np.uint8]
    clip: Ints
    start_s: Floats
    end_s: Floats
    label: Ints
    labels: Sequence[str]

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> LabelColumns:
        """Return some stretches, or all in another order; as much is known of the clips as before."""
        return replace(
            self, clip=self.clip[rows], start_s=self.start_s[rows], end_s=self.end_s[rows], label=self.label[rows]
        )

    def by_start(self) -> LabelColumns:
        """Return the stretches of each clip in the order of their starts; equal ones stay in order."""
        return self.take(np.lexsort((self.start_s, self.clip)))

    def if_any(self) -> LabelColumns:
        """Return the same stretches; where a clip was to have some and has none, nothing is known."""
        has = np.bincount(self.clip, minlength=len(self.known)) > 0
        return replace(self, known=np.where((self.known == SOME) & ~has, UNKNOWN, self.known).astype(np.uint8))

    def and_of(self, other: LabelColumns) -> LabelColumns:
        """Return the stretches of both, where a clip has some in one of them only."""
        clip = np.concatenate((self.clip, other.clip))
        both = LabelColumns(
            known=np.maximum(self.known, other.known),
            clip=clip,
            start_s=np.concatenate((self.start_s, other.start_s)),
            end_s=np.concatenate((self.end_s, other.end_s)),
            label=np.concatenate((self.label, other.label + len(self.labels))),
            labels=(*self.labels, *other.labels),
        )
        return both.take(np.argsort(clip, kind="stable"))


@dataclass(frozen=True)
class Reading:
    """How the stretches of a kind are read: of one clip, and (the same ones) of a run of clips."""

    of_clip: Intervals
    of_run: Callable[[ClipRun], LabelColumns]

    def __call__(self, clip: Clip) -> tuple[Interval, ...] | None:
        return self.of_clip(clip)


def read_run(intervals: Intervals, run: ClipRun) -> LabelColumns:
    """Return the stretches of a run of clips, read at once where `intervals` can, and else clip by clip."""
    if isinstance(intervals, Reading) and run.has_columns:
        return intervals.of_run(run)
    known = np.zeros(len(run), dtype=np.uint8)
    numbers: dict[str, int] = {}
    found: list[Interval] = []
    sizes = []
    for number, clip in enumerate(run.clips):
        own = intervals(clip)
        known[number] = UNKNOWN if own is None else SOME if own else NONE
        found.extend(own or ())
        sizes.append(len(own or ()))
    return LabelColumns(
        known=known,
        clip=np.repeat(np.arange(len(run)), sizes),
        start_s=np.array([each.start_s for each in found], dtype=np.float64),
        end_s=np.array([each.end_s for each in found], dtype=np.float64),
        label=np.array([numbers.setdefault(each.label, len(numbers)) for each in found], dtype=np.intp),
        labels=tuple(numbers),
    )


def whole_clips(values: Sequence[str | None], until_s: float) -> LabelColumns:
    """Return a stretch from 0 to `until_s` in each clip for which there is a value."""
    numbers: dict[str, int] = {}
    known = np.array([SOME if value else UNKNOWN for value in values], dtype=np.uint8)
    clip = np.flatnonzero(known)
    return LabelColumns(
        known=known,
        clip=clip,
        start_s=np.zeros(len(clip)),
        end_s=np.full(len(clip), until_s),
        label=np.array([numbers.setdefault(value, len(numbers)) for value in values if value], dtype=np.intp),
        labels=tuple(numbers),
    )
