"""From frames with their features to features with their frames, in one pass and in bounded memory.

Codes arrive frame by frame. Every chunk of a few thousand frames is sorted by feature and appended to scratch files;
`blocks` then gathers the chunks' pieces of a few features at a time. Memory grows with features and chunk size, never
with the number of frames. A journal makes the pass resumable at the last whole chunk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from otoscope.dictionaries import SparseCode
from otoscope.errors import OtoscopeError
from otoscope.evaluation.by_feature import Block
from otoscope.storage import read_json, write_json

JOURNAL = {"format": "otoscope-atlas-scratch", "version": 1}


class Inversion:
    """The scratch files of one pass over a corpus."""

    def __init__(self, folder: Path, n_features: int, key: str) -> None:
        """Continue the pass in `folder` if it was made for the same `key`, else start anew."""
        self.folder = folder
        self.n_features = n_features
        self.key = key
        self.clip_frames: list[int] = []
        self._n_entries = 0
        self._n_chunks = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    @property
    def n_clips(self) -> int:
        """Clips that are safely on disk."""
        return len(self.clip_frames)

    @property
    def n_frames(self) -> int:
        """Frames that are safely on disk."""
        return sum(self.clip_frames)

    def append(self, code: SparseCode, clip_frames: list[int]) -> None:
        """Add the code of whole clips of `clip_frames` frames each."""
        first = self.n_frames
        if first + len(code) >= 2**32:
            raise OtoscopeError("An atlas holds at most 2³² frames; build one per part of the corpus.")
        values = code.values.detach().float().cpu().contiguous().numpy()
        indices = code.indices.cpu().contiguous().numpy()
        indptr, frames, strengths = _by_feature(values, indices, self.n_features, first)
        for name, array in (("frames", frames), ("values", strengths), ("indptr", indptr)):
            with open(self.folder / name, "ab") as file:
                array.tofile(file)
        self._n_entries += len(frames)
        self._n_chunks += 1
        self.clip_frames.extend(clip_frames)
        self._write_journal()

    def blocks(self, max_entries: int = 1 << 21) -> Iterator[Block]:
        """Yield all features in order, as many at a time as keep a block under `max_entries` (at least one)."""
        width = self.n_features + 1
        indptr = self._open("indptr", np.int64, self._n_chunks * width).reshape(self._n_chunks, width)
        frames = self._open("frames", np.uint32, self._n_entries)
        values = self._open("values", np.float32, self._n_entries)
        starts = np.concatenate(([0], np.cumsum([int(row[-1]) for row in indptr])))
        first = 0
        while first < self.n_features:
            last = self._block_end(indptr, first, max_entries)
            pieces = indptr[:, first : last + 1] + starts[:-1, None]
            yield _gather(first, np.ascontiguousarray(pieces), frames, values)
            first = last

    def _block_end(self, indptr: npt.NDArray[np.int64], first: int, max_entries: int) -> int:
        look = min(self.n_features, first + 4096)
        sizes = (indptr[:, first : look + 1] - indptr[:, first : first + 1]).sum(axis=0)
        return first + max(1, int(np.searchsorted(sizes, max_entries, side="right")) - 1)

    def _open(self, name: str, dtype: type[Any], size: int) -> npt.NDArray[Any]:
        if size == 0:
            return np.zeros(0, dtype=dtype)
        return np.memmap(self.folder / name, dtype=dtype, mode="r", shape=(size,))

    def _resume(self) -> None:
        journal = self.folder / "journal.json"
        if journal.exists():
            state = read_json(journal, **JOURNAL)  # type: ignore[arg-type]
            if state["key"] == self.key:
                self.clip_frames = list(state["clip_frames"])
                self._n_entries, self._n_chunks = state["n_entries"], state["n_chunks"]
        sizes = {
            "frames": 4 * self._n_entries,
            "values": 4 * self._n_entries,
            "indptr": 8 * self._n_chunks * (self.n_features + 1),
        }
        if any(_size(self.folder / name) < size for name, size in sizes.items()):
            self.clip_frames, self._n_entries, self._n_chunks = [], 0, 0
            sizes = dict.fromkeys(sizes, 0)
        for name, size in sizes.items():
            with open(self.folder / name, "ab") as file:
                file.truncate(size)
        self._write_journal()

    def _write_journal(self) -> None:
        counts = {"n_entries": self._n_entries, "n_chunks": self._n_chunks, "clip_frames": self.clip_frames}
        write_json(self.folder / "journal.json", {**JOURNAL, "key": self.key, **counts})


def _size(path: Path) -> int:
    return os.path.getsize(path) if path.exists() else 0


def _gather(
    first: int,
    pieces: npt.NDArray[np.int64],
    frames: npt.NDArray[np.uint32],
    values: npt.NDArray[np.float32],
) -> Block:
    """Concatenate the chunks' `pieces [chunk, feature + 1]` of each feature."""
    indptr = np.concatenate(([0], np.cumsum(np.diff(pieces, axis=1).sum(axis=0)))).astype(np.int64)
    out_frames = np.empty(indptr[-1], dtype=np.uint32)
    out_values = np.empty(indptr[-1], dtype=np.float32)
    position = indptr[:-1].copy()
    for row in pieces:
        lo, hi = int(row[0]), int(row[-1])
        _scatter(row - lo, np.asarray(frames[lo:hi]), np.asarray(values[lo:hi]), position, out_frames, out_values)
    return Block(first, indptr, out_frames, out_values)


@numba.njit(cache=True, nogil=True)
def _scatter(row, frames, values, position, out_frames, out_values):  # type: ignore[no-untyped-def]
    for i in range(len(row) - 1):
        at = position[i]
        for entry in range(row[i], row[i + 1]):
            out_frames[at] = frames[entry]
            out_values[at] = values[entry]
            at += 1
        position[i] = at


@numba.njit(cache=True, nogil=True)
def _by_feature(values, indices, n_features, first_frame):  # type: ignore[no-untyped-def]
    """Counting sort of the active (> 0) entries of `[t, k]` by feature; frames stay ascending."""
    indptr = np.zeros(n_features + 1, dtype=np.int64)
    n_frames, k = values.shape
    for t in range(n_frames):
        for j in range(k):
            if values[t, j] > 0:
                indptr[indices[t, j] + 1] += 1
    for i in range(n_features):
        indptr[i + 1] += indptr[i]
    at = indptr[:-1].copy()
    frames = np.empty(indptr[n_features], dtype=np.uint32)
    strengths = np.empty(indptr[n_features], dtype=np.float32)
    for t in range(n_frames):
        for j in range(k):
            if values[t, j] > 0:
                i = indices[t, j]
                frames[at[i]] = first_frame + t
                strengths[at[i]] = values[t, j]
                at[i] += 1
    return indptr, frames, strengths
