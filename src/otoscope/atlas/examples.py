"""Moments to listen to: the strongest frames of a feature, some of every band of its range, and random ones.

They follow from the entries of a feature and a seed, so nothing is stored. Within a kind (and within a band) no clip
appears twice, and among the strongest no speaker takes more than a quarter of the places while others are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.atlas.moments import Clips
from otoscope.atlas.postings import Entries

KINDS = ("top", "decile", "random", "near_miss")
N_PER_BAND = 3
"""Frames taken from each tenth of the range: band b holds values from b·10 % to (b + 1)·10 % of the maximum."""
N_BANDS = 10
SPEAKER_SHARE = 4

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """A moment at which a feature is active: frame `frame` of the clip, at `time_s` seconds from its start.

    `decile` (0–9, for kind "decile") is the tenth of the feature's range, from 0 to its maximum, that `value` is in.
    """

    clip_id: str
    frame: int
    time_s: float
    value: float
    kind: str
    decile: int | None = None


def strongest(entries: Entries, clips: Clips, n: int) -> Ints:
    """Entries of the `n` highest clip peaks, highest first; ties go to the earlier clip."""
    peaks = clips.peaks(entries)
    order = np.argsort(-peaks.values, kind="stable")
    cap = max(1, -(-n // SPEAKER_SHARE))
    taken: dict[str, int] = {}
    chosen: list[int] = []
    passed_over: list[int] = []
    for at in order.tolist():
        if len(chosen) == n or len(passed_over) > 64 * n:
            break
        speaker = clips.speakers[int(peaks.clips[at])]
        if speaker and taken.get(speaker, 0) >= cap:
            passed_over.append(at)
            continue
        taken[speaker] = taken.get(speaker, 0) + 1
        chosen.append(at)
    chosen = sorted(chosen + passed_over[: n - len(chosen)], key=lambda at: (-peaks.values[at], at))
    return peaks.entries[np.array(chosen, dtype=np.int64)]


def of_every_band(entries: Entries, clips: Clips, n: int, seed: Sequence[int]) -> tuple[Ints, Ints]:
    """At most `n` entries spread over the tenths of the range, strongest band first, and the band of each."""
    rng = np.random.default_rng(seed)
    values = entries.values
    if len(values) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    edges = values.max() * np.arange(N_BANDS + 1, dtype=np.float32) / N_BANDS
    band = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, N_BANDS - 1)
    by_band = np.argsort(band, kind="stable")
    bounds = np.searchsorted(band[by_band], np.arange(N_BANDS + 1))
    found = []
    for b in range(N_BANDS - 1, -1, -1):
        members = by_band[bounds[b] : bounds[b + 1]]
        picked = _from_distinct_clips(members, entries, clips, N_PER_BAND, rng)
        picked = picked[np.argsort(-values[picked], kind="stable")]
        found += [(turn, -b, int(entry)) for turn, entry in enumerate(picked)]
    kept = sorted(sorted(found)[:n], key=lambda each: (each[1], each[0]))
    return np.array([e for _, _, e in kept], dtype=np.int64), np.array([-b for _, b, _ in kept], dtype=np.int64)


def at_random(entries: Entries, clips: Clips, n: int, seed: Sequence[int]) -> Ints:
    """At most `n` entries of different clips, drawn without regard to value, strongest first."""
    rng = np.random.default_rng(seed)
    picked = _from_distinct_clips(np.arange(len(entries.values)), entries, clips, n, rng)
    return picked[np.argsort(-entries.values[picked], kind="stable")]


def _from_distinct_clips(members: Ints, entries: Entries, clips: Clips, n: int, rng: np.random.Generator) -> Ints:
    """Draw entries until `n` are of different clips, or the draws are used up."""
    if len(members) == 0:
        return np.zeros(0, np.int64)
    drawn = rng.permutation(members)[: 16 * n] if len(members) < 4096 else rng.choice(members, 16 * n)
    clip = np.searchsorted(clips.starts, entries.frames[drawn], side="right") - 1
    _, first = np.unique(clip, return_index=True)
    return drawn[np.sort(first)[:n]]
