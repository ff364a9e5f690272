"""Where a clip is loud enough to be speech: what keeps words out of long pauses when nothing better tells them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from otoscope.audio import Clip, Interval, log_mel

QUIET_DB = 35.0
"""Sound this much below the loudest of its clip counts as a pause."""
LONGEST_CLOSURE_S = 0.12
"""Quiet shorter than this may be part of a word: the closure of a stop."""
_FRAME_S = 0.01


def loud_frames(clip: Clip) -> np.ndarray:
    """Return for each 10 ms of a clip whether it is loud enough to be speech, `[t]`."""
    samples = clip.samples()
    mel = log_mel(samples, pad_to_samples=max(len(samples), 400)).numpy()
    level_db = 10 * (4 * mel - 4).max(0)
    loud: np.ndarray = level_db > level_db.max() - QUIET_DB
    return loud


def out_of_pauses(words: Sequence[Interval], clip: Clip) -> list[Interval]:
    """Move the edges of words that reach into a pause to where the sound begins or ends.

    The last word lasts as long as the sound that it ends in. Without pauses (noise) nothing changes.
    """
    if not words:
        return []
    loud = loud_frames(clip)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(np.int8))) * _FRAME_S
    runs = [[float(a), float(b)] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    sounds: list[list[float]] = []
    for run in runs:  # sounds with no more than the closure of a stop between them are one
        if sounds and run[0] - sounds[-1][1] <= LONGEST_CLOSURE_S:
            sounds[-1][1] = run[1]
        else:
            sounds.append(run)
    found = [_inside(word, sounds) for word in words]
    last = found[-1]
    end_s = next((stop for start, stop in sounds if start <= last.end_s < stop), last.end_s)
    found[-1] = Interval(last.start_s, min(max(last.end_s, end_s), clip.duration_s), last.label)
    return found


def _inside(word: Interval, sounds: Sequence[Sequence[float]]) -> Interval:
    """The part of a word from the first to the last sound that it touches; all of it if it touches none."""
    heard = [(max(a, word.start_s), min(b, word.end_s)) for a, b in sounds if a < word.end_s and b > word.start_s]
    return Interval(heard[0][0], heard[-1][1], word.label) if heard else word
