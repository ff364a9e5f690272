"""From codes to everything an atlas knows of its features, a block of features at a time."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas.building.clip_lists import Arrays, clip_lists, joined_lists
from otoscope.atlas.building.cofiring import CofiringCounter
from otoscope.atlas.building.statistics import Columns, Uncut, feature_statistics
from otoscope.atlas.building.transposing import BLOCK_ENTRIES
from otoscope.atlas.format import PART_ENTRIES, postings_part
from otoscope.atlas.labels.evidence import Evidence
from otoscope.evaluation.naming.by_feature import Block
from otoscope.evaluation.naming.labeller import Named, Rows
from otoscope.storage import atomic_path
from otoscope.storage.arrays import Growing, write_arrays

MAX_TOGETHER = 4 * BLOCK_ENTRIES
"""Blocks of more entries (a single feature, then) are not worked on beside others."""


class PostingsWriter:
    """Appends features in order; a part is closed with the feature that fills it. What waits for that lies on disk."""

    def __init__(self, folder: Path, clip_bounds: npt.NDArray[np.int64]) -> None:
        self.folder = folder
        self.clip_bounds = clip_bounds
        (folder / "postings").mkdir(parents=True, exist_ok=True)
        self.parts: list[dict[str, int]] = []
        self.n_entries = 0
        self._next = 0
        self._frames, self._values = Growing(folder, np.uint32), Growing(folder, np.float32)
        self._counts: list[npt.NDArray[np.int64]] = []
        self._lists: list[tuple[int, Arrays]] = []

    def append(self, block: Block) -> None:
        """Add the entries of the next features, frames ascending."""
        at = 0
        while at < len(block):
            room = PART_ENTRIES - self._frames.n_rows
            sizes = block.indptr[at + 1 :] - block.indptr[at]
            end = min(len(block), at + int(np.searchsorted(sizes, room)) + 1)
            lo, hi = int(block.indptr[at]), int(block.indptr[end])
            frames, values = block.frames[lo:hi], block.values[lo:hi]
            n_before = sum(map(len, self._counts))
            self._lists.append(
                (n_before, clip_lists(block.indptr[at : end + 1] - lo, frames, values, self.clip_bounds))
            )
            self._counts.append(np.diff(block.indptr[at : end + 1]))
            self._frames.append(frames)
            self._values.append(values)
            if self._frames.n_rows >= PART_ENTRIES:
                self._flush()
            at = end

    def close(self) -> list[dict[str, int]]:
        """Write what is left; return the parts as `{"first": feature, "last": feature}` (last exclusive)."""
        if self._counts:
            self._flush()
        self._frames.close()
        self._values.close()
        return self.parts

    def _flush(self) -> None:
        counts = np.concatenate(self._counts)
        indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        lists = joined_lists(self._lists)
        with atomic_path(self.folder / postings_part(len(self.parts))) as temporary:
            write_arrays(temporary, {"indptr": indptr, "frames": self._frames, "values": self._values, **lists})
        self.parts.append({"first": self._next, "last": self._next + len(counts)})
        self._next += len(counts)
        self.n_entries += self._frames.n_rows
        for held in (self._frames, self._values, self._counts, self._lists):
            held.clear()


class Indexed:
    """What one block of features gave: the block, and its rows of every table."""

    def __init__(self, block: Block, statistics: Columns, named: Named, acoustic: Rows) -> None:
        self.block, self.statistics, self.named, self.acoustic = block, statistics, named, acoustic


def index_block(
    block: Block,
    clip_starts: npt.NDArray[np.int64],
    n_frames: int,
    evidence: Evidence,
    uncut: Uncut | None = None,
    partners: CofiringCounter | None = None,
) -> Indexed:
    """Describe and label the features of a block, and find what fires with them."""
    named, acoustic, ranked = evidence.of(block)
    statistics = feature_statistics(block, ranked, clip_starts, n_frames, uncut)
    if partners is not None:
        statistics |= partners.of(block)
    return Indexed(block, statistics, named, acoustic)


def in_order(blocks: Iterator[Block], work: Callable[[Block], Indexed]) -> Iterator[Indexed]:
    """Work on blocks with all cores (the inner loops release the GIL); results come in order, few wait at a time, and
    a feature with very many entries is worked on alone."""
    n_threads = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    waiting: deque[Future[Indexed]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        for block in blocks:
            alone = len(block.frames) > MAX_TOGETHER
            while waiting and (alone or len(waiting) > n_threads):
                yield waiting.popleft().result()
            if alone:
                yield work(block)
            else:
                waiting.append(pool.submit(work, block))
        while waiting:
            yield waiting.popleft().result()


def joined(rows: list[dict[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """Concatenate rows of tables, column by column."""
    return {name: np.concatenate([each[name] for each in rows]) for name in rows[0]} if rows else {}


def runs(groups: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Position of each entry within its run of equal `groups`."""
    index = np.arange(len(groups))
    new = np.concatenate(([True], groups[1:] != groups[:-1]))[: len(groups)]
    return (index - np.maximum.accumulate(np.where(new, index, 0))).astype(np.int32)


def clip_bounds(clip_frames: list[int]) -> npt.NDArray[np.int64]:
    """First frame of every clip, and the number of all frames last."""
    return np.array(list(itertools.accumulate(clip_frames, initial=0)), dtype=np.int64)
