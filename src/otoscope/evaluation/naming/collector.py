"""Taking in the labels of a corpus, clips in order: what is counted of them, and how they are moved to show chance.

Short clips in a row are joined to rings of `MIN_RING` frames, or their few possible rotations would make chance look
less variable than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numba
import numpy as np
import numpy.typing as npt

from otoscope.evaluation.naming.label_sets import SPEECH, LabelSet
from otoscope.evaluation.naming.labelling import (
    BANDED,
    FIT,
    N_SHIFTS,
    SCORE,
    Ints,
    LabelKindClasses,
    Labelling,
    LabelPart,
)

MIN_SHIFTS, N_MOVED = 4, 1024
"""Rings are moved at least so often, and all of them together no more often than is needed for so many moves."""
MIN_SHIFT = 25
"""Labels rotate by at least this many frames (0.5 s), either way; less in rings shorter than four times as long."""
MIN_RING = 150
"""Clips with fewer labelled frames rotate together with their neighbours, if these have classes too (or have none)."""
MAX_CLUSTERS = 512
"""Clips are the clusters of confidence intervals; beyond this number, groups of neighbouring clips are."""
MAX_DEALS, MAX_DEALT = 999, 1 << 19
"""Labels of whole clips are dealt so often, less often to very many clips: with few clips only counting tells."""
NEAR = 2
"""A frame is near a class that holds in it, or so many frames before or after."""


@dataclass
class LabelCollector:
    """Takes in the classes of clips, part by part, and counts what `Labelling` needs."""

    kinds: Sequence[LabelKindClasses]
    half: npt.NDArray[np.uint8]
    seed: int
    n_shifts: int = N_SHIFTS
    speakers: Sequence[str | None] = ()
    max_dealt: int = MAX_DEALT
    near_frames: int = NEAR
    n_clips_done: int = 0
    first_frame: int = 0
    constant: Ints = field(init=False)
    labelled: Ints = field(init=False)

    def __post_init__(self) -> None:
        n_kinds, n_clips = len(self.kinds), self.half.shape[1]
        n_clusters = min(max(n_clips, 1), MAX_CLUSTERS)
        sizes = [len(each.classes) + 1 for each in self.kinds]
        self.cluster = (np.arange(n_clips) * n_clusters // max(n_clips, 1)).astype(np.int32)
        self.n_positive = tuple(np.zeros((2, size), dtype=np.int64) for size in sizes)
        self.cluster_positive = tuple(np.zeros((size, n_clusters), dtype=np.int32) for size in sizes)
        self.n_dropped, self.n_rings = np.zeros(n_kinds, dtype=np.int64), np.zeros(n_kinds, dtype=np.int64)
        self.constant, self.labelled = np.zeros(n_kinds, dtype=np.int64), np.zeros(n_kinds, dtype=np.int64)
        self.clip_class = np.full((n_kinds, n_clips), -1, dtype=np.int16)
        self.clip_length = np.zeros((n_kinds, n_clips), dtype=np.int64)
        names = [each.name for each in self.kinds]
        self.near = {
            name: np.zeros((2, sizes[k], sizes[k]), dtype=np.int64) for k, name in enumerate(names) if name in BANDED
        }
        both = {"phone", "word"} <= set(names)
        self._spoken = (names.index("phone"), names.index("word")) if both else None
        p, w = (sizes[k] for k in self._spoken) if self._spoken else (0, 0)
        self.in_word = np.zeros((2, p, w), dtype=np.int64)

    def add(self, classes: npt.NDArray[np.int16], clip_frames: Sequence[int]) -> LabelPart:
        """Take in the classes `[t, k]` of the next clips, which are one part."""
        first_clip, n_clips = self.n_clips_done, len(clip_frames)
        local = np.repeat(np.arange(n_clips, dtype=np.int32), clip_frames)
        clip = local + np.int32(first_clip)
        half = self.half[:, first_clip : first_clip + n_clips]
        place = np.full(classes.shape, -1, dtype=np.int32)
        ring = np.full((len(self.kinds), n_clips), -1, dtype=np.int32)
        tracks, at = [np.zeros(0, dtype=np.int16)], 0
        spans: list[tuple[int, int]] = []
        for k, kind in enumerate(self.kinds):
            own = classes[:, k]
            self._count(k, own, clip, half[k][local])
            mine = np.flatnonzero((own >= 0) & (half[k][local] == SCORE))
            place[mine, k] = at + np.arange(len(mine), dtype=np.int32)
            tracks.append(own[mine])
            lengths = np.bincount(local[mine], minlength=n_clips)
            known = np.flatnonzero(lengths)
            starts = np.cumsum(lengths) - lengths
            self.clip_class[k, first_clip + known] = own[mine][starts[known]]
            self.clip_length[k, first_clip : first_clip + n_clips] = lengths
            spoken = np.bincount(local[mine], own[mine] < len(kind.classes), minlength=n_clips) > 0
            rings = _rings(lengths, spoken, at, ring[k], len(spans))
            self.n_rings[k] += len(rings)
            spans += rings
            at += len(mine)
            if kind.name in self.near:
                _count_near(own, clip, half[k], first_clip, self.near_frames, self.near[kind.name])
        if self._spoken:
            _count_pairs(*(classes[:, k] for k in self._spoken), clip, half[0], first_clip, self.in_word)
        start, length = np.array(spans, dtype=np.int64).reshape(-1, 2).T
        rng = np.random.default_rng([self.seed, self.first_frame])
        least = np.minimum(MIN_SHIFT, length // 4)
        moves = rng.integers(least, length - least + 1, size=(self.n_shifts, len(length))) % np.maximum(length, 1)
        part = LabelPart(
            first=self.first_frame,
            classes=classes,
            clip=clip,
            place=place,
            track=np.concatenate(tracks),
            ring=ring,
            first_clip=first_clip,
            ring_start=np.ascontiguousarray(start),
            ring_length=np.ascontiguousarray(length),
            moves=np.ascontiguousarray(moves.T.astype(np.int32)),
        )
        self.n_clips_done += n_clips
        self.first_frame += len(clip)
        return part

    def note(self, labelled: npt.NDArray[np.bool_], constant: npt.NDArray[np.bool_]) -> None:
        """Count clips `[b, k]`: in which kinds they are labelled, and in which one class holds for all of a clip."""
        self.labelled += labelled.sum(axis=0)
        self.constant += constant.sum(axis=0)

    def finish(
        self, n_parts: int, part: Callable[[int], LabelPart], whole: npt.NDArray[np.bool_] | None = None
    ) -> Labelling:
        """Return the labelling, once all clips are in; `whole [k]` if it is known in which kinds labels are dealt."""
        if whole is None:
            whole = 2 * self.constant > self.labelled
            whole |= np.array([each.holds_for != "frames" for each in self.kinds], dtype=bool)
        dealt: tuple[list[npt.NDArray[np.int16]], ...] = ([], [])
        dealt_bounds: tuple[list[npt.NDArray[np.int16]], ...] = ([], [])
        dealt_positive: tuple[list[Ints], ...] = ([], [])
        unit_counts = []
        unit = np.full(self.half.shape, -1, dtype=np.int32)
        rng = np.random.default_rng([self.seed, 1, len(self.kinds)])
        for k, kind in enumerate(self.kinds):
            size = len(kind.classes) + 1
            tables = [np.zeros((0, 0), dtype=np.int16)] * 2
            counts = np.zeros(size, dtype=np.int64)
            if whole[k]:
                tables, counts = self._deal(k, kind, unit[k], rng)
            frames = _weighted(unit[k], self.clip_length[k], len(tables[1]))
            if SPEECH not in kind.classes:
                tables[0] = np.zeros((0, 0), dtype=np.int16)
            unit_counts.append(counts)
            for which, table in enumerate(tables):
                order, bounds = _by_class(table, size)
                dealt[which].append(order)
                dealt_bounds[which].append(bounds)
                rows = [_weighted(row, frames, size) for row in table.T]
                empty = np.zeros((size, 0), dtype=np.int64)
                dealt_positive[which].append(np.stack(rows, axis=1) if rows else empty)
        present = [int((counts.sum(axis=0) > 0).sum()) for counts in self.n_positive]
        usable = [len(kind.classes) > 0 and n > 1 for kind, n in zip(self.kinds, present, strict=True)]
        return Labelling(
            kinds=tuple(self.kinds),
            half=self.half,
            n_positive=self.n_positive,
            whole=np.asarray(whole),
            usable=np.array(usable, dtype=bool),
            n_moves=np.clip(-(-N_MOVED // np.maximum(self.n_rings, 1)), min(MIN_SHIFTS, self.n_shifts), self.n_shifts),
            unit=unit,
            dealt=(tuple(dealt[0]), tuple(dealt[1])),
            dealt_bounds=(tuple(dealt_bounds[0]), tuple(dealt_bounds[1])),
            dealt_positive=(tuple(dealt_positive[0]), tuple(dealt_positive[1])),
            unit_counts=tuple(unit_counts),
            cluster=self.cluster,
            cluster_positive=self.cluster_positive,
            near=self.near,
            in_word=self.in_word,
            n_dropped=self.n_dropped,
            speakers=self.speakers,
            n_shifts=self.n_shifts,
            near_frames=self.near_frames,
            n_parts=n_parts,
            part=part,
        )

    def _count(
        self, k: int, own: npt.NDArray[np.int16], clip: npt.NDArray[np.int32], side: npt.NDArray[np.uint8]
    ) -> None:
        known = own >= 0
        size = len(self.kinds[k].classes) + 1
        for half in (FIT, SCORE):
            self.n_positive[k][half] += np.bincount(own[known & (side == half)], minlength=size)
        scored = known & (side == SCORE)
        n_clusters = self.cluster_positive[k].shape[1]
        flat = own[scored].astype(np.int64) * n_clusters + self.cluster[clip[scored]]
        found = np.bincount(flat, minlength=size * n_clusters).reshape(size, n_clusters)
        self.cluster_positive[k][:] += found.astype(np.int32)
        self.n_dropped[k] += int((~known).sum())

    def _deal(
        self, k: int, kind: LabelKindClasses, unit: npt.NDArray[np.int32], rng: np.random.Generator
    ) -> tuple[list[npt.NDArray[np.int16]], Ints]:
        """Two tables `[u, m]` of the classes dealt to units, and how many units are of each class; fills `unit [b]`.

        Clips of a speaker share one row: a row for each clip would grow with them, as deals do not."""
        held = self.clip_class[k]
        known = np.flatnonzero(held >= 0)
        group = np.arange(len(known))
        if kind.holds_for == "speakers":
            names = [(self.speakers[i] if self.speakers else None) or f"clip {i}" for i in known.tolist()]
            by_speaker = np.unique(names, return_inverse=True)[1]
            pairs = np.unique(np.stack([by_speaker, held[known]]), axis=1)
            if pairs.shape[1] == len(np.unique(by_speaker)):  # else speakers speak several languages, say
                group = by_speaker
        _, first = np.unique(group, return_index=True)
        unit[known] = group
        own = held[known][first]
        speech = kind.classes.index(SPEECH) if SPEECH in kind.classes else -1
        n_deals = int(np.clip(self.max_dealt // max(len(own), 1), self.n_shifts, MAX_DEALS))
        tables = []
        for among in (np.arange(len(own)), np.flatnonzero(own != speech)):
            moved = np.tile(own, (n_deals, 1))
            for row in moved:
                row[among] = own[among][rng.permutation(len(among))]
            tables.append(np.ascontiguousarray(moved.T))
        return tables, np.bincount(own, minlength=len(kind.classes) + 1)


def labelling_of_sets(
    sets: Sequence[LabelSet],
    clip_of_frame: npt.NDArray[np.int32],
    half: npt.NDArray[np.uint8],
    *,
    seed: int,
    n_shifts: int = N_SHIFTS,
) -> Labelling:
    """Return the labelling of frames whose labels are in memory, as one part."""
    kinds = [
        LabelKindClasses(each.kind, each.classes, each.n_intervals, "clips" if each.whole_clips else "frames")
        for each in sets
    ]
    collector = LabelCollector(kinds, np.tile(half, (len(sets), 1)), seed, n_shifts)
    classes = np.stack([each.frame_class for each in sets], axis=1)
    part = collector.add(classes, np.bincount(clip_of_frame, minlength=len(half)).tolist())
    return collector.finish(1, lambda _: part)


def _rings(
    lengths: Ints, spoken: npt.NDArray[np.bool_], at: int, ring: npt.NDArray[np.int32], first: int
) -> list[tuple[int, int]]:
    """Join short clips in a row, those with some class apart from those with none; fill `ring [clips]` and return
    (start, length) of the new rings."""
    spans: list[tuple[int, int]] = []
    sorts: list[bool] = []
    for clip in np.flatnonzero(lengths).tolist():
        length, sort = int(lengths[clip]), bool(spoken[clip])
        if spans and sorts[-1] == sort and min(spans[-1][1], length) < MIN_RING:
            spans[-1] = (spans[-1][0], spans[-1][1] + length)
        else:
            spans.append((at, length))
            sorts.append(sort)
        ring[clip] = first + len(spans) - 1
        at += length
    return spans


def _by_class(table: npt.NDArray[np.int16], size: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """The columns of each row `[b, m]` sorted by class, and where each class begins among them `[b, size + 1]`."""
    order = np.empty_like(table)
    bounds = np.zeros((len(table), size + 1), dtype=np.int16)
    for start in range(0, len(table), 64):  # sorting gives 64-bit numbers: four times what is kept of them
        rows = slice(start, start + 64)
        order[rows] = np.argsort(table[rows], axis=1, kind="stable")
        for c in range(size + 1):
            bounds[rows, c] = (table[rows] < c).sum(axis=1)
    return order, bounds


def _weighted(classes: npt.NDArray[np.int16], weights: Ints, size: int) -> Ints:
    known = classes >= 0
    return np.bincount(classes[known], weights=weights[known], minlength=size).astype(np.int64)


@numba.njit(cache=True, nogil=True)
def _count_near(classes, clip, half, first_clip, away, near):  # type: ignore[no-untyped-def]
    n = len(classes)
    for t in range(n):
        c = classes[t]
        if c < 0:
            continue
        side = half[clip[t] - first_clip]
        before = classes[t - away] if t >= away and clip[t - away] == clip[t] else -1
        after = classes[t + away] if t + away < n and clip[t + away] == clip[t] else -1
        near[side, c, c] += 1
        if before >= 0 and before != c:
            near[side, before, c] += 1
        if after >= 0 and after != c and after != before:
            near[side, after, c] += 1


@numba.njit(cache=True, nogil=True)
def _count_pairs(first, second, clip, half, first_clip, counts):  # type: ignore[no-untyped-def]
    for t in range(len(first)):
        if first[t] >= 0 and second[t] >= 0:
            counts[half[clip[t] - first_clip], first[t], second[t]] += 1
