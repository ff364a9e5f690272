"""Moments to listen to: the strongest frames of a feature, some of every band of its range, and random ones.

They follow from the entries of a feature and a seed, so nothing is stored. Within a kind (and within a band) no clip
appears twice, and among the strongest no speaker takes more than a quarter of the places while others are left.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator, default_rng

from otoscope.atlas.moments import ClipPeaks, Clips
from otoscope.atlas.postings import Entries, within
from otoscope.models.clock import Clock

KINDS = ("top", "decile", "random", "near_miss")
N_PER_BAND = 3
"""Frames taken from each tenth of the range: band b holds values from b·10 % to (b + 1)·10 % of the maximum."""
N_BANDS = 10
SPEAKER_SHARE = 4
MAX_PASSED_OVER = 64
"""Clips of speakers with enough places that are passed over for each place, at most."""
N_DRAWN = 4096
"""Of features with more entries, this many are drawn and chosen from."""
DRAWS_PER_PLACE = 16

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """A moment of a feature: frame `frame` of the clip, at `time_s` seconds from its start, where it has `value`.

    `decile` (0–9, for kind "decile") is the tenth of the feature's range, from 0 to its maximum, that `value` is in.
    """

    clip_id: str
    frame: int
    time_s: float
    value: float
    kind: str
    decile: int | None = None


def examples_at(
    clips: Clips, clock: Clock, kind: str, frames: Ints, values: Sequence[float], bands: Ints | None = None
) -> list[Example]:
    """Return frames of the corpus as examples, in the order given."""
    clip = np.searchsorted(clips.starts, frames, side="right") - 1
    within = (frames - clips.starts[clip]).tolist()
    return [
        Example(
            clip_id=clips.ids[int(clip[i])],
            frame=within[i],
            time_s=round(clock.time_s(within[i]), 6),
            value=float(values[i]),
            kind=kind,
            decile=None if bands is None else int(bands[i]),
        )
        for i in range(len(frames))
    ]


def strongest(peaks: ClipPeaks, clips: Clips, n: int) -> Ints:
    """Positions of the `n` highest clip peaks, highest first; ties go to the earlier clip."""
    most = n + MAX_PASSED_OVER * n + 1
    order = np.arange(len(peaks.values))
    if len(order) > most:
        order = np.flatnonzero(peaks.values >= np.partition(peaks.values, len(order) - most)[len(order) - most])
    order = order[np.argsort(-peaks.values[order], kind="stable")]
    cap = max(1, -(-n // SPEAKER_SHARE))
    taken: dict[str, int] = {}
    chosen: list[int] = []
    passed_over: list[int] = []
    for at in order.tolist():
        if len(chosen) == n or len(passed_over) > MAX_PASSED_OVER * n:
            break
        speaker = clips.speakers[int(peaks.clips[at])]
        if speaker and taken.get(speaker, 0) >= cap:
            passed_over.append(at)
            continue
        taken[speaker] = taken.get(speaker, 0) + 1
        chosen.append(at)
    chosen = sorted(chosen + passed_over[: n - len(chosen)], key=lambda at: (-peaks.values[at], at))
    return np.array(chosen, dtype=np.int64)


def of_every_band(entries: Entries, clips: Clips, n: int, seed: Sequence[int]) -> tuple[Ints, Ints]:
    """At most `n` entries spread over the tenths of the range, strongest band first, and the band of each."""
    rng = default_rng(seed)
    if len(entries.values) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    found = []
    for b, members in enumerate(_by_band(entries.values, rng)):
        picked = _from_distinct_clips(members, entries, clips, N_PER_BAND, rng)
        picked = picked[np.argsort(-entries.values[picked], kind="stable")]
        found += [(turn, -b, int(entry)) for turn, entry in enumerate(picked)]
    kept = sorted(sorted(found)[:n], key=lambda each: (each[1], each[0]))
    return np.array([e for _, _, e in kept], dtype=np.int64), np.array([-b for _, b, _ in kept], dtype=np.int64)


def at_random(entries: Entries, clips: Clips, n: int, seed: Sequence[int]) -> Ints:
    """At most `n` entries of different clips, drawn without regard to value, strongest first."""
    rng = default_rng(seed)
    n_entries = len(entries.values)
    members = np.arange(n_entries) if n_entries <= N_DRAWN else rng.integers(0, n_entries, N_DRAWN)
    picked = _from_distinct_clips(members, entries, clips, n, rng)
    return picked[np.argsort(-entries.values[picked], kind="stable")]


def _by_band(values: npt.NDArray[np.float32], rng: Generator) -> list[Ints]:
    """Entries of every band: all of them, or of bands that hold many a random sample."""
    edges = values.max() * np.arange(N_BANDS + 1, dtype=np.float32) / N_BANDS
    drawn = np.arange(len(values)) if len(values) <= N_DRAWN else rng.integers(0, len(values), N_DRAWN)
    found = _split(values, drawn, edges)
    if len(values) <= N_DRAWN:
        return found
    rare = [b for b in range(N_BANDS) if len(found[b]) < DRAWS_PER_PLACE * N_PER_BAND]
    while rare:  # runs of neighbouring bands by one look at all values each
        first = last = rare.pop(0)
        while rare and rare[0] == last + 1:
            last = rare.pop(0)
        inside = within(values, edges[first] if first else None, None, edges[last + 1] if last < N_BANDS - 1 else None)
        found[first : last + 1] = _split(values, inside, edges)[first : last + 1]
    return found


def _split(values: npt.NDArray[np.float32], members: Ints, edges: npt.NDArray[np.float32]) -> list[Ints]:
    own = values[members]
    band = np.zeros(len(own), dtype=np.uint8)  # so narrow that it is sorted in one pass
    for edge in edges[1:N_BANDS]:
        band += own > edge
    ordered = members[np.argsort(band, kind="stable")]
    bounds = [0, *np.cumsum(np.bincount(band, minlength=N_BANDS)).tolist()]
    return [ordered[first:stop] for first, stop in itertools.pairwise(bounds)]


def _from_distinct_clips(members: Ints, entries: Entries, clips: Clips, n: int, rng: Generator) -> Ints:
    """Draw entries until `n` are of different clips, or the draws are used up."""
    if len(members) == 0:
        return np.zeros(0, np.int64)
    drawn = rng.permutation(members)[: DRAWS_PER_PLACE * n]
    clip = np.searchsorted(clips.starts, entries.frames[drawn], side="right") - 1
    _, first = np.unique(clip, return_index=True)
    return drawn[np.sort(first)[:n]]
