"""The deep look at a corpus: every clip decoded, every tier held against the length of its sound."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from otoscope.audio.clip import Clip
from otoscope.audio.decoding import END_TOLERANCE_S, SAMPLE_RATE_HZ
from otoscope.audio.problems import Problem
from otoscope.errors import InputError
from otoscope.progress import ProgressReport, track

_AT_ONCE = 256


def check_clips(clips: Sequence[Clip], progress: bool | ProgressReport) -> tuple[Problem, ...]:
    """Return what cannot be used of each clip, in order; no sound is kept."""
    found: list[Problem] = []
    with (
        track("checking", len(clips), progress, unit="clips") as advance,
        ThreadPoolExecutor(4) as pool,
    ):
        for start in range(0, len(clips), _AT_ONCE):
            for problem in pool.map(_check, clips[start : start + _AT_ONCE]):
                found += [problem] if problem is not None else []
                advance(1)
    return tuple(found)


def _check(clip: Clip) -> Problem | None:
    try:
        length_s = len(clip.decode()) / SAMPLE_RATE_HZ
    except InputError as error:
        reason = str(error).removeprefix(clip.uri).strip().rstrip(".")
        return Problem(clip.uri, reason, clip.clip_id)
    for name, tier in clip.tiers.items():
        late = next((i for i in tier if name in ("words", "phones") and i.end_s > length_s + END_TOLERANCE_S), None)
        if late is not None:
            reason = f"{name} {late.label!r} ends at {late.end_s:g} s, after the sound ({length_s:.2f} s)"
            return Problem(clip.uri, reason, clip.clip_id)
    return None
