"""Frames in which a feature takes values between two bounds, grouped into moments to listen to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from otoscope.atlas.postings import within
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas

SIGNS = ("+", "-", "both")
SORTS = ("value", "-value", "time")
MAX_LIMIT = 10_000


@dataclass(frozen=True)
class Moment:
    """Consecutive frames of one clip, from `start_s` to `end_s`: the span whose frames `Clock.span` gives back.

    `value` is that of its strongest frame, `frame` (within the clip), whose centre is at `peak_s`.
    """

    clip_id: str
    start_s: float
    end_s: float
    value: float
    frame: int
    peak_s: float


@dataclass(frozen=True)
class FrameRange:
    """What a query for frames found.

    Attributes:
        n_frames: frames that answer it.
        n_clips: clips that they are in.
        n_moments: runs of consecutive such frames.
        moments: those asked for by `limit` and `offset`.
        complete_from: values below this are not all in the atlas (dense dictionaries keep the strongest frames); 0
            where all are.
    """

    n_frames: int
    n_clips: int
    n_moments: int
    moments: list[Moment]
    complete_from: float = 0.0


class Found(NamedTuple):
    """Frames of the corpus (ascending) with a value each."""

    frames: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]


def frames_in_range(
    atlas: Atlas, feature: int, low: float | None, high: float | None, sign: str, sort: str, limit: int, offset: int
) -> FrameRange:
    """See `Atlas.frames_in_range`."""
    if sign not in SIGNS:
        raise InputError(f"There is no sign {sign!r}; choose one of {', '.join(SIGNS)}.")
    for name, bound in (("low", low), ("high", high)):
        if bound is not None and not math.isfinite(bound):
            raise InputError(f"The bound {name} must be a finite number, got {bound}.")
    if low is not None and high is not None and low > high:
        raise InputError(f"No value lies between {low} and {high}: the lower bound is the higher one.")
    sides = [feature] if sign == "+" else [opposite(atlas, feature)]
    if sign == "both":
        sides = [feature, *sides]
    pieces = [_between(atlas, side, low, high) for side in sides]
    floor = max(atlas[side].figure("postings_from") for side in sides)
    if len(pieces) == 1:
        found = pieces[0]
    else:
        frames = np.concatenate([piece.frames for piece in pieces])
        order = np.argsort(frames, kind="stable")
        signed = np.concatenate([pieces[0].values, -pieces[1].values])
        found = Found(frames[order], signed[order])
    return in_moments(atlas, found, sort, limit, offset, floor)


def opposite(atlas: Atlas, feature: int) -> int:
    """Return the feature that stands for the other sign of a unit.

    Raises:
        InputError: the dictionary's features have one sign only.
    """
    if atlas.meta["dictionary"]["kind"] != "neurons":
        raise InputError(f"Feature {feature} of atlas {atlas.name!r} is never negative; only neurons have two signs.")
    return (feature + len(atlas) // 2) % len(atlas)


def in_moments(
    atlas: Atlas, found: Found, sort: str, limit: int, offset: int, complete_from: float = 0.0
) -> FrameRange:
    """Group frames into moments and return those asked for.

    `sort` is "value" (largest magnitude first), "-value" (smallest first) or "time" (corpus order); ties go to the
    earlier moment.

    Raises:
        InputError: no such order, or `limit` or `offset` out of range.
    """
    if sort not in SORTS:
        raise InputError(f"Moments cannot be sorted by {sort!r}; choose one of {', '.join(SORTS)}.")
    if not 0 <= limit <= MAX_LIMIT or offset < 0:
        raise InputError(f"limit must be from 0 to {MAX_LIMIT} and offset at least 0, got {limit} and {offset}.")
    frames, values = found
    if not len(frames):
        return FrameRange(0, 0, 0, [], complete_from)
    starts = np.searchsorted(frames, atlas.clips.frame_bounds)
    n_clips = int(np.count_nonzero(np.diff(starts)))
    new = np.empty(len(frames), dtype=bool)
    new[0] = True
    np.not_equal(frames[1:], frames[:-1] + np.uint32(1), out=new[1:])
    new[starts[starts < len(frames)]] = True
    first = np.flatnonzero(new)
    strength = np.abs(values)
    peaks = np.maximum.reduceat(strength, first)
    shown = _chosen(peaks, sort, limit, offset)
    last = np.append(first[1:], len(frames))
    return FrameRange(
        n_frames=len(frames),
        n_clips=n_clips,
        n_moments=len(first),
        moments=[_moment(atlas, found, int(first[i]), int(last[i])) for i in shown],
        complete_from=complete_from,
    )


def _chosen(peaks: npt.NDArray[np.float32], sort: str, limit: int, offset: int) -> npt.NDArray[np.int64]:
    """Positions `offset … offset + limit` of the moments in order, without sorting all of them."""
    if sort == "time":
        return np.arange(len(peaks))[offset : offset + limit]
    keys = -peaks if sort == "value" else peaks
    wanted = offset + limit
    if wanted < len(keys):
        edge = np.partition(keys, wanted)[wanted]
        candidates = np.flatnonzero(keys <= edge)
    else:
        candidates = np.arange(len(keys))
    return candidates[np.argsort(keys[candidates], kind="stable")][offset:wanted]


def _moment(atlas: Atlas, found: Found, first: int, last: int) -> Moment:
    """Describe entries `first:last`, consecutive frames of one clip."""
    clip = int(np.searchsorted(atlas.clips.starts, found.frames[first], side="right")) - 1
    base = int(atlas.clips.starts[clip])
    peak = first + int(np.argmax(np.abs(found.values[first:last])))
    start_s, end_s = seconds(atlas, int(found.frames[first]) - base, int(found.frames[last - 1]) - base + 1)
    frame = int(found.frames[peak]) - base
    return Moment(
        clip_id=atlas.clips.ids[clip],
        start_s=start_s,
        end_s=end_s,
        value=float(found.values[peak]),
        frame=frame,
        peak_s=round(atlas.clock.time_s(frame), 6),
    )


def seconds(atlas: Atlas, first: int, stop: int) -> tuple[float, float]:
    """Return the span of seconds that holds frames `first:stop` of a clip and no other (see `Clock.span`)."""
    return round(atlas.clock.time_s(first), 6), round(atlas.clock.time_s(stop), 6)


def _between(atlas: Atlas, feature: int, low: float | None, high: float | None) -> Found:
    frames, values = atlas[feature].entries
    if low is None and high is None:
        return Found(frames, values)
    at = within(values, None, None if low is None else np.float32(low), None if high is None else np.float32(high))
    return Found(frames[at], values[at])
