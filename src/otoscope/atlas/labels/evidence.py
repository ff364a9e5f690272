"""From which clips a feature's labels are learned: all, or a sample of them if it fires in very many frames.

A feature with a million active frames needs no more than a few ten thousand to be named, and neither memory nor time
to name it should grow beyond that. Samples are nested: each holds a quarter of the frames of the one before, as clips
whose ids hash lowest. Labels, thresholds and all their figures are then of the sample; where there are few clips, all
are used. Everything else an atlas says of a feature is of all frames.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt

from otoscope.atlas.labels.collecting import sampled_labels
from otoscope.evaluation.naming.by_feature import Block
from otoscope.evaluation.naming.labeller import Labeller, Named
from otoscope.evaluation.naming.labelling import Labelling

MAX_ENTRIES = 1 << 16
"""A feature with more active frames is named from a sample that holds no more of them, and mostly a quarter or more."""
MIN_CLIPS = 128
"""No sample has fewer clips in either half of the voices: voices tell more than frames."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Sample:
    """Some of the clips: `first_frame [b]` of each among them (−1 for the others), and their labeller."""

    first_frame: Ints
    labeller: Labeller


class Evidence:
    """Names features from as many clips as each needs. Thread-safe.

    Args:
        labelling: the labels of all clips.
        clip_ids: of all clips.
        clip_bounds: `[b + 1]` first frame of each clip, and the number of all frames.
        counts: `[n]` active frames of every feature.
        scratch: folder for labels of samples; the caller removes it.
        seed: of the moves of the labels.
    """

    def __init__(
        self,
        labelling: Labelling,
        clip_ids: Sequence[str],
        clip_bounds: Ints,
        counts: Ints,
        scratch: Path,
        *,
        seed: int,
    ) -> None:
        self._bounds, sizes = clip_bounds, np.diff(clip_bounds)
        self.share = np.ones(len(counts), dtype=np.float32)
        """`[n]` share of all frames that a feature's labels are learned from."""
        self._whole = Labeller(labelling)
        self._level = np.zeros(len(counts), dtype=np.int64)
        self._samples: dict[int, _Sample] = {}
        if counts.max(initial=0) <= MAX_ENTRIES:
            return
        samples = nested_samples(clip_ids, clip_bounds, labelling.half)
        if not samples:
            return
        for level, before in enumerate([np.ones(len(sizes), dtype=bool), *samples[:-1]], start=1):
            self._level[counts * (sizes[before].sum() / clip_bounds[-1]) > MAX_ENTRIES] = level
        for level in sorted({*self._level.tolist()} - {0}):
            chosen = samples[level - 1]
            labels = sampled_labels(labelling, sizes, chosen, scratch / f"sample-{level}", seed=seed)
            ends = np.cumsum(np.where(chosen, sizes, 0))
            self.share[self._level == level] = ends[-1] / clip_bounds[-1]
            first_frame = np.where(chosen, ends - sizes, -1)
            self._samples[level] = _Sample(first_frame, Labeller(labels, self._whole.best))

    def label(self, block: Block, order: npt.NDArray[np.uint32]) -> Named:
        """Score the features of a block whose frames ascend and whose `ranking` is `order`."""
        level = self._level[block.first : block.first + len(block)]
        if not level.any():
            return self._whole.label(block, order)
        return Named.joined([self._named(*each) for each in _runs(block, order, level)])

    def _named(self, block: Block, order: npt.NDArray[np.uint32], level: int) -> Named:
        if level == 0:
            return self._whole.label(block, order)
        sample = self._samples[level]
        kept = _kept(block.indptr, block.frames, block.values, self._bounds, sample.first_frame)
        return sample.labeller.label(Block(block.first, *kept))


def nested_samples(
    clip_ids: Sequence[str], clip_bounds: Ints, half: npt.NDArray[np.uint8]
) -> list[npt.NDArray[np.bool_]]:
    """Return samples of the clips `[b]`, each with a quarter of the frames of the one before, the largest first.

    `half [k, b]` is the half that each clip is in, in every kind; the last sample is the last to have enough of both.
    """
    keys = [hashlib.sha256(f"otoscope evidence {each}".encode()).digest() for each in clip_ids]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    so_far = np.cumsum(np.diff(clip_bounds)[order])
    found: list[npt.NDArray[np.bool_]] = []
    while True:
        chosen = np.zeros(len(keys), dtype=bool)
        chosen[order[: int(np.searchsorted(so_far, clip_bounds[-1] / 4 ** (len(found) + 1))) + 1]] = True
        n, scored = int(chosen.sum()), half[:, chosen].sum(axis=1)
        if min(n, int(scored.min(initial=n)), int((n - scored).min(initial=n))) < MIN_CLIPS:
            return found
        found.append(chosen)


def _runs(
    block: Block, order: npt.NDArray[np.uint32], level: Ints
) -> Iterator[tuple[Block, npt.NDArray[np.uint32], int]]:
    """Cut a block where the level changes."""
    ends = np.append(np.flatnonzero(np.diff(level)) + 1, len(level)).tolist()
    for start, end in itertools.pairwise([0, *ends]):
        lo, hi = int(block.indptr[start]), int(block.indptr[end])
        indptr = block.indptr[start : end + 1] - lo
        own = Block(block.first + start, indptr, block.frames[lo:hi], block.values[lo:hi])
        yield own, order[lo:hi] - np.uint32(lo), int(level[start])


@numba.njit(cache=True, nogil=True)
def _kept(indptr, frames, values, bounds, first_frame):  # type: ignore[no-untyped-def]
    """Entries of the clips of a sample, their frames counted in it: `indptr`, frames, values."""
    kept_indptr = np.zeros(len(indptr), dtype=np.int64)
    kept, strengths = np.empty(len(frames), dtype=np.uint32), np.empty(len(frames), dtype=np.float32)
    n = 0
    for i in range(len(indptr) - 1):
        clip = np.int64(-1)
        for entry in range(indptr[i], indptr[i + 1]):
            frame = np.int64(frames[entry])
            if clip < 0 or frame >= bounds[clip + 1]:
                clip = np.searchsorted(bounds, frame, side="right") - 1
            first = first_frame[clip]
            kept[n], strengths[n] = np.uint32(max(first, 0) + frame - bounds[clip]), values[entry]
            n += first >= 0
        kept_indptr[i + 1] = n
    return kept_indptr, kept[:n].copy(), strengths[:n].copy()
