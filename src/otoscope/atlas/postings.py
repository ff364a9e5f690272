"""Every moment a feature is active: its frames and values, in parts that are memory-mapped and can live anywhere.

`postings/indptr.npy [n + 1]` int64; entry range `indptr[i]:indptr[i + 1]` belongs to feature i. The entries lie in
parts `NNNNN.frames.npy` (uint32, ascending within a feature, counted from the corpus's first frame) and
`NNNNN.values.npy` (float32); a feature is never split over two parts. Dense dictionaries keep each feature's strongest
frames only: all above its `postings_from` value.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

PART_ENTRIES = 1 << 24
"""A part is closed once it holds this many entries (128 MB)."""


class Entries(NamedTuple):
    """Frames (ascending, corpus-wide) and values of one feature."""

    frames: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]


def strongest(entries: Entries, keep: int) -> tuple[Entries, float]:
    """The `keep` strongest of ranked entries (falling values) and all that tie with the last of them, by frame.

    Also returns the value above which nothing was left out (0 where all are kept).
    """
    frames, values = entries
    floor = 0.0
    if len(values) > keep:
        keep = int(np.searchsorted(-values, -values[keep - 1], side="right"))
        floor = float(values[keep]) if keep < len(values) else 0.0
    order = np.argsort(frames[:keep])
    return Entries(frames[:keep][order], values[:keep][order]), floor


class PostingsWriter:
    """Appends features in order; `close` writes the index and returns the part table for `meta.json`."""

    def __init__(self, folder: Path, n_features: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.indptr = np.zeros(n_features + 1, dtype=np.int64)
        self.parts: list[dict[str, int]] = []
        self._first = self._next = 0
        self._held: list[Entries] = []
        self._n_held = 0

    def append(self, entries: Entries) -> None:
        """Add the next feature's entries, frames ascending."""
        self.indptr[self._next + 1] = self.indptr[self._next] + len(entries.frames)
        self._next += 1
        self._held.append(entries)
        self._n_held += len(entries.frames)
        if self._n_held >= PART_ENTRIES:
            self._flush()

    def close(self) -> list[dict[str, int]]:
        """Write what is left; return the parts as `{"first": feature, "last": feature}` (last exclusive)."""
        if self._held:
            self._flush()
        np.save(self.folder / "indptr.npy", self.indptr)
        return self.parts

    def _flush(self) -> None:
        stem = f"{len(self.parts):05d}"
        np.save(self.folder / f"{stem}.frames.npy", np.concatenate([each.frames for each in self._held]))
        np.save(self.folder / f"{stem}.values.npy", np.concatenate([each.values for each in self._held]))
        self.parts.append({"first": self._first, "last": self._next})
        self._first = self._next
        self._held, self._n_held = [], 0


class Postings:
    """Reads the entries of one feature at a time from memory-mapped parts."""

    def __init__(self, folder: Path, parts: list[dict[str, int]]) -> None:
        self.folder = folder
        self._firsts = [part["first"] for part in parts]
        self._indptr: npt.NDArray[np.int64] = np.load(folder / "indptr.npy", mmap_mode="r")
        self._maps: dict[str, npt.NDArray[np.generic]] = {}

    def __getitem__(self, feature: int) -> Entries:
        """Return the entries of a feature, read from disk only where they lie."""
        part = int(np.searchsorted(self._firsts, feature, side="right")) - 1
        base = int(self._indptr[self._firsts[part]])
        span = slice(int(self._indptr[feature]) - base, int(self._indptr[feature + 1]) - base)
        frames = self._map(f"{part:05d}.frames.npy")[span]
        values = self._map(f"{part:05d}.values.npy")[span]
        return Entries(np.array(frames, dtype=np.uint32), np.array(values, dtype=np.float32))

    def __len__(self) -> int:
        """Number of entries of all features."""
        return int(self._indptr[-1])

    def _map(self, name: str) -> npt.NDArray[np.generic]:
        if name not in self._maps:
            self._maps[name] = np.load(self.folder / name, mmap_mode="r")
        return self._maps[name]
