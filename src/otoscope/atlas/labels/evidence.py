"""From which frames a feature's labels are learned: all, or a sample of them if it fires in very many.

A feature with a million active frames needs no more than a few thousand to be named, and neither memory nor time to
name it should grow beyond that. Samples are nested, each a quarter of the one before. The first holds every fourth
frame of all clips: neighbouring frames say nearly the same, and every voice and nearly every sound stays. Each further
one holds a quarter of the clips, those whose ids hash lowest; where there are few clips, there is none. Labels,
correlations with what is heard, and all their figures are then of the sample. Everything else an atlas says of a
feature is of all frames.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt

from otoscope.atlas.labels.acoustic import AcousticTable, Parts
from otoscope.atlas.labels.collecting import FrameSample, sampled_labels, sampled_measures
from otoscope.evaluation.naming.by_feature import Block, ranking
from otoscope.evaluation.naming.labeller import Labeller, Named, Rows
from otoscope.evaluation.naming.labelling import Labelling

MAX_ENTRIES = 1 << 14
"""A feature with more active frames is named from the largest sample that holds no more of them, if there is one."""
STRIDE = 4
"""Samples hold one of so many frames (80 ms)."""
MIN_CLIPS = 128
"""No sample leaves clips out and keeps fewer in either half of the voices: voices tell more than frames."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Tables:
    """What features of a level are named by, and the sample that it is of (none: all frames)."""

    labeller: Labeller
    heard: AcousticTable
    sample: FrameSample | None = None

    def of(self, block: Block, order: npt.NDArray[np.uint32] | None = None) -> tuple[Named, Rows]:
        """Name features by all entries of a block, whose `ranking` may be known, and relate them to what is heard."""
        return self.labeller.label(block, order), self.heard.of(block)

    def of_some(self, block: Block, which: Ints, bounds: Ints) -> tuple[Named, Rows]:
        """Name some features of a block by their entries of the sample; they are counted from 0."""
        sample = self.sample
        if sample is None:
            return self.of(Block(0, *_picked(block.indptr, block.frames, block.values, which)))
        shift = sample.stride.bit_length() - 1
        kept = _kept(block.indptr, block.frames, block.values, which, bounds, sample.first_frame, sample.phase, shift)
        return self.of(Block(0, *kept))


class Evidence:
    """Names features, and says what they follow that can be heard, from as many frames as each needs. Thread-safe.

    Args:
        labelling: the labels of all clips.
        measures: (first frame, file with `measures [t, 4]`) of the parts of all clips, in order.
        clip_ids: of all clips.
        clip_bounds: `[b + 1]` first frame of each clip, and the number of all frames.
        counts: `[n]` active frames of every feature.
        scratch: folder for labels of samples; the caller removes it.
        seed: of the moves of the labels.
    """

    def __init__(
        self,
        labelling: Labelling,
        measures: Parts,
        clip_ids: Sequence[str],
        clip_bounds: Ints,
        counts: Ints,
        scratch: Path,
        *,
        seed: int,
    ) -> None:
        self._bounds = clip_bounds
        self.share = np.ones(len(counts), dtype=np.float32)
        """`[n]` share of all frames that a feature's labels are learned from."""
        self.effort = counts
        """`[n]` by how many entries each feature is named, or half of all, if that is more."""
        self._level = np.zeros(len(counts), dtype=np.int64)
        whole = Labeller(labelling)
        self._tables = {0: _Tables(whole, AcousticTable(measures, labelling.cluster, clip_bounds))}
        if counts.max(initial=0) <= MAX_ENTRIES:
            return
        samples = nested_samples(clip_ids, clip_bounds, labelling.half)
        shares = [1.0, *(each.bounds[-1] / clip_bounds[-1] for each in samples)]
        for level, before in enumerate(shares[:-1], start=1):
            self._level[counts * before > MAX_ENTRIES] = level
        for level in sorted({*self._level.tolist()} - {0}):
            sample, folder = samples[level - 1], scratch / f"sample-{level}"
            labels = sampled_labels(labelling, sample, folder, seed=seed)
            heard = AcousticTable(sampled_measures(measures, sample, folder), labels.cluster, sample.bounds)
            self.share[self._level == level] = shares[level]
            self._tables[level] = _Tables(Labeller(labels, whole.best), heard, sample)
        self.effort = (counts * np.maximum(self.share, 0.5)).astype(np.int64)

    def of(self, block: Block) -> tuple[Named, Rows, npt.NDArray[np.float32]]:
        """Return what features of a block, whose frames ascend, are named; `AcousticTable.of` of them; and the block's
        values, falling within each feature."""
        level = self._level[block.first : block.first + len(block)]
        if not level.any():
            order = ranking(block.indptr, block.values)
            return *self._tables[0].of(block, order), block.values[order]
        found = []
        for each in np.unique(level):
            which = np.flatnonzero(level == each)
            found.append((which, *self._tables[int(each)].of_some(block, which, self._bounds)))
        return *_in_order(found, block.first), falling(block.indptr, block.values)


def nested_samples(clip_ids: Sequence[str], clip_bounds: Ints, half: npt.NDArray[np.uint8]) -> list[FrameSample]:
    """Return samples of the frames, the largest first, each part of the one before.

    `half [k, b]` is the half that each clip is in, in every kind; the last sample is the last to have enough of both.
    """
    keys = [hashlib.sha256(f"otoscope evidence {each}".encode()).digest() for each in clip_ids]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    phase = np.array([key[-1] % STRIDE for key in keys], dtype=np.int64)
    sizes = np.diff(clip_bounds)
    so_far = np.cumsum(sizes[order])
    found = [FrameSample(np.ones(len(keys), dtype=bool), STRIDE, phase, sizes)]
    for quarters in itertools.count(1):
        chosen = np.zeros(len(keys), dtype=bool)
        chosen[order[: int(np.searchsorted(so_far, clip_bounds[-1] / 4**quarters)) + 1]] = True
        n, scored = int(chosen.sum()), half[:, chosen].sum(axis=1)
        if min(n, int(scored.min(initial=n)), int((n - scored).min(initial=n))) < MIN_CLIPS:
            break
        found.append(FrameSample(chosen, STRIDE, phase, sizes))
    return found


def falling(indptr: Ints, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the values in falling order within each feature."""
    found = -values
    for start, stop in itertools.pairwise(indptr.tolist()):
        found[start:stop].sort()
    return np.negative(found, out=found)


def _in_order(found: list[tuple[Ints, Named, Rows]], first: int) -> tuple[Named, Rows]:
    """Join what was found of groups of features, which count from 0 in each, and sort it by feature."""
    groups = [which for which, _, _ in found]
    named, order = [each for _, each, _ in found], np.argsort(np.concatenate(groups))
    for which, each in zip(groups, named, strict=True):
        for rows in (each.pairs, each.bands):
            rows["feature"] = (first + which[rows["feature"]]).astype(rows["feature"].dtype)
    joined = Named.joined(named)
    pairs, bands = (_taken(rows, np.argsort(rows["feature"], kind="stable")) for rows in (joined.pairs, joined.bands))
    acoustic = {name: np.concatenate([each[name] for _, _, each in found]) for name in found[0][2]}
    return Named(pairs, bands, _taken(joined.purities, order), _taken(joined.lexical, order)), _taken(acoustic, order)


def _taken(rows: Rows, order: Ints) -> Rows:
    return {name: column[order] for name, column in rows.items()}


@numba.njit(cache=True, nogil=True)
def _picked(indptr, frames, values, which):  # type: ignore[no-untyped-def]
    """Entries of some features of a block: `indptr`, frames, values."""
    bounds = np.zeros(len(which) + 1, dtype=np.int64)
    for j in range(len(which)):
        bounds[j + 1] = bounds[j] + indptr[which[j] + 1] - indptr[which[j]]
    taken, strengths = np.empty(bounds[-1], dtype=np.uint32), np.empty(bounds[-1], dtype=np.float32)
    for j in range(len(which)):
        start, stop = indptr[which[j]], indptr[which[j] + 1]
        taken[bounds[j] : bounds[j + 1]] = frames[start:stop]
        strengths[bounds[j] : bounds[j + 1]] = values[start:stop]
    return bounds, taken, strengths


@numba.njit(cache=True, nogil=True)
def _kept(indptr, frames, values, which, bounds, first_frame, phase, shift):  # type: ignore[no-untyped-def]
    """Entries of some features in the frames of a sample, counted in it: `indptr`, frames, values."""
    kept_indptr = np.zeros(len(which) + 1, dtype=np.int64)
    most = 1
    for i in which:
        most += indptr[i + 1] - indptr[i]
    kept, strengths = np.empty(most, dtype=np.uint32), np.empty(most, dtype=np.float32)
    n, between = 0, (1 << shift) - 1
    for j in range(len(which)):
        entry, end = indptr[which[j]], indptr[which[j] + 1]
        while entry < end:
            clip = np.searchsorted(bounds, np.int64(frames[entry]), side="right") - 1
            start, stop, first, own = bounds[clip], bounds[clip + 1], first_frame[clip], phase[clip]
            chosen = first >= 0
            while entry < end and frames[entry] < stop:  # written in any case and overwritten if not kept
                t = np.int64(frames[entry]) - start
                kept[n], strengths[n] = np.uint32(max(first, 0) + (t >> shift)), values[entry]
                n += chosen & ((t & between) == own)
                entry += 1
        kept_indptr[j + 1] = n
    return kept_indptr, kept[:n].copy(), strengths[:n].copy()
