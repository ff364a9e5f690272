"""From frames with their features to features with their frames, in bounded memory.

Every part of the codes is sorted by feature into scratch files, as many features at a time as fit into little memory;
`blocks` then gathers the parts' pieces of a few features at a time. Memory grows with features and block size, never
with the number of frames.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numba
import numpy as np
import numpy.typing as npt

from otoscope.evaluation.naming.by_feature import Block
from otoscope.storage.arrays import ArrayFile

BLOCK_ENTRIES = 1 << 17
RUN_ENTRIES = 1 << 18
"""Entries of a part that are sorted at a time."""
PARTS_MAPPED = 16
"""Parts of which pieces are mapped at a time."""


class Transposed:
    """The entries of some codes by feature, in scratch files that `close` removes."""

    def __init__(self, folder: Path, n_features: int) -> None:
        self.folder = folder
        self.n_features = n_features
        self.counts = np.zeros(n_features, dtype=np.int64)
        """`[n]` entries of every feature."""
        self._starts: list[int] = [0]
        self._run = np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.float32)
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {name: open(folder / name, "w+b") for name in ("indptr", "frames", "values")}  # noqa: SIM115

    def add(self, part: ArrayFile, first_frame: int) -> None:
        """Take in a part of the codes whose first frame is `first_frame` in the corpus."""
        of_frame, features, values = part.read("indptr"), part.read("features"), part.read("values")
        indptr = np.zeros(self.n_features + 1, dtype=np.int64)
        np.cumsum(_counts(features, self.n_features), out=indptr[1:])
        indptr.tofile(self._files["indptr"])
        next_entry = of_frame[:-1].copy()
        for first, last in _runs(indptr):
            lo, n = indptr[first], indptr[last] - indptr[first]
            if len(self._run[0]) < n:
                self._run = np.empty(n, dtype=np.uint32), np.empty(n, dtype=np.float32)
            _by_feature(of_frame, next_entry, features, values, indptr[first:last] - lo, first, first_frame, *self._run)
            for name, array in zip(("frames", "values"), self._run, strict=True):
                array[:n].tofile(self._files[name])
        part.release()
        self.counts += np.diff(indptr)
        self._starts.append(self._starts[-1] + int(indptr[-1]))
        for file in self._files.values():
            file.flush()

    def blocks(self, effort: npt.NDArray[np.int64] | None = None) -> Iterator[Block]:
        """Yield all features in order, as many at a time as stay under `BLOCK_ENTRIES` (at least one).

        `effort [n]` is what counts of each, if that is not all of its entries.
        """
        effort, first = self.counts if effort is None else effort, 0
        while first < self.n_features:
            sizes = np.cumsum(effort[first : first + 65536])
            end = first + max(1, int(np.searchsorted(sizes, BLOCK_ENTRIES, side="right")))
            yield self._gather(first, end)
            first = end

    def close(self) -> None:
        """Remove the scratch files."""
        for name, file in self._files.items():
            file.close()
            (self.folder / name).unlink(missing_ok=True)

    def _gather(self, first: int, last: int) -> Block:
        indptr = np.concatenate(([0], np.cumsum(self.counts[first:last]))).astype(np.int64)
        frames = np.empty(indptr[-1], dtype=np.uint32)
        values = np.empty(indptr[-1], dtype=np.float32)
        if len(frames):
            maps = {name: _Mapped(file) for name, file in self._files.items()}
            starts = np.array(self._starts[:-1], dtype=np.int64)
            rows = maps["indptr"].array(np.int64).reshape(len(starts), -1)[:, first : last + 1]
            pieces = maps["frames"].array(np.uint32), maps["values"].array(np.float32)
            position = indptr[:-1].copy()
            for some in range(0, len(starts), PARTS_MAPPED):
                parts = slice(some, some + PARTS_MAPPED)
                _collect(starts[parts], rows[parts], *pieces, position, frames, values)
                for each in maps.values():
                    each.release()
        return Block(first, indptr, frames, values)


class _Mapped:
    """A file of which a few places are read; systems map whole runs of pages around each."""

    def __init__(self, file: BinaryIO) -> None:
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            self._map.madvise(mmap.MADV_RANDOM)

    def array(self, dtype: type[Any]) -> npt.NDArray[Any]:
        """The file as one array, which keeps it mapped."""
        return np.frombuffer(self._map, dtype=dtype)

    def release(self) -> None:
        """Let go of the memory of what was read."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def transposed(parts: Iterable[tuple[int, ArrayFile]], folder: Path, n_features: int) -> Transposed:
    """Transpose parts given as (first frame, arrays), in order."""
    result = Transposed(folder, n_features)
    for first_frame, part in parts:
        result.add(part, first_frame)
    return result


@numba.njit(cache=True, nogil=True)
def _collect(starts, rows, frames, values, position, out_frames, out_values):  # type: ignore[no-untyped-def]
    """Gather the pieces of some features from all parts: `rows [parts, features + 1]` tells where they begin."""
    for part in range(len(starts)):
        for i in range(len(position)):
            at, lo = position[i], starts[part] + rows[part, i]
            for entry in range(rows[part, i + 1] - rows[part, i]):
                out_frames[at + entry] = frames[lo + entry]
                out_values[at + entry] = values[lo + entry]
            position[i] += rows[part, i + 1] - rows[part, i]


def _runs(indptr: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield features (first, stop), as many at a time as stay under `RUN_ENTRIES` (at least one)."""
    first, stop = 0, len(indptr) - 1
    while first < stop:
        last = max(first + 1, int(np.searchsorted(indptr, indptr[first] + RUN_ENTRIES, side="right")) - 1)
        yield first, last
        first = last


@numba.njit(cache=True, nogil=True)
def _counts(features, n_features):  # type: ignore[no-untyped-def]
    counts = np.zeros(n_features, dtype=np.int64)
    for entry in range(len(features)):
        counts[features[entry]] += 1
    return counts


@numba.njit(cache=True, nogil=True)
def _by_feature(of_frame, next_entry, features, values, at, first, first_frame, out_frames, out_values):  # type: ignore[no-untyped-def]
    """Counting sort of the entries of features `first:first + len(at)`; frames stay ascending.

    `at [m]` is where those of each feature begin in `out_…`, `next_entry [t]` the first entry of every frame that
    belongs to them: features ascend within a frame, so that nothing is looked at twice.
    """
    last = first + len(at)
    for t in range(len(next_entry)):
        entry, stop = next_entry[t], of_frame[t + 1]
        while entry < stop and features[entry] < last:
            i = features[entry] - first
            out_frames[at[i]] = first_frame + t
            out_values[at[i]] = values[entry]
            at[i] += 1
            entry += 1
        next_entry[t] = entry
