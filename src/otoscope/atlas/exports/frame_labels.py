"""Sound as tokens, for programs that show text: one token per aligned phone, or per frame where there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from otoscope.audio import Clip
    from otoscope.models.clock import Clock

PAUSE = "…"
"""What lies between phones."""

Ints = npt.NDArray[np.int64]


def phone_of_frames(clip: Clip, clock: Clock, n_frames: int) -> Ints:
    """`[t]` the number of the phone that each frame of a clip lies in, −1 for none."""
    found = np.full(n_frames, -1)
    times = clock.offset_s + clock.frame_s * np.arange(n_frames)
    phones = clip.tier("phones")
    bounds = np.array([(phone.start_s, phone.end_s) for phone in phones], dtype=np.float64).reshape(-1, 2)
    for number, (start, stop) in enumerate(np.searchsorted(times, bounds, side="left").tolist()):
        found[start:stop] = number
    return found


def frame_tokens(clip: Clip, clock: Clock, n_frames: int) -> tuple[list[str], Ints]:
    """Return the tokens of a clip and the first frame of each, `[tokens + 1]`, its end included."""
    phones = clip.tier("phones")
    if not phones:
        return [f"{clock.time_s(frame):.2f}s" for frame in range(n_frames)], np.arange(n_frames + 1)
    phone_of = phone_of_frames(clip, clock, n_frames)
    starts = np.flatnonzero(np.diff(phone_of, prepend=-2))
    tokens = [PAUSE if phone_of[start] < 0 else phones[phone_of[start]].label for start in starts]
    return tokens, np.append(starts, n_frames)
