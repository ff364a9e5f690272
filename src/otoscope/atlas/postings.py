"""In which frames every feature is active: the inverted half of the index, in parts of whole features."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from otoscope.atlas.format import postings_part
from otoscope.storage.arrays import ArrayFile
from otoscope.storage.sealed import SealedFolder

PIECE = 1 << 16
"""Values of a feature that are looked at together."""


class Entries(NamedTuple):
    """Frames (ascending, counted from the corpus's first) and values of one feature."""

    frames: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]


class ClipList(NamedTuple):
    """Of a heavy feature: clips where it is active, the first entry in each, frame and value of the peak."""

    clips: npt.NDArray[np.uint32]
    first: npt.NDArray[np.uint32]
    frames: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]


def within(
    values: npt.NDArray[np.float32], above: np.float32 | None, low: np.float32 | None, high: np.float32 | None
) -> npt.NDArray[np.int64]:
    """Positions of the values that are > `above`, >= `low` and <= `high`; None for no bound.

    They are looked at a piece at a time: an answer for each of a million values would lie in memory that is new, and
    getting that from the system takes longer than comparing.
    """
    bounds = [(np.greater, above), (np.greater_equal, low), (np.less_equal, high)]
    tests = [(compare, bound) for compare, bound in bounds if bound is not None]
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(values), PIECE):
        piece = values[start : start + PIECE]
        kept = np.ones(len(piece), dtype=bool) if not tests else tests[0][0](piece, tests[0][1])
        for compare, bound in tests[1:]:
            kept &= compare(piece, bound)
        found.append(np.flatnonzero(kept) + start)
    return np.concatenate(found)


class Postings:
    """Reads the entries of one feature at a time from memory-mapped parts."""

    def __init__(self, sealed: SealedFolder) -> None:
        self._sealed = sealed
        self._firsts = [int(part["first"]) for part in sealed.meta["postings"]["parts"]]
        self.n_features = int(sealed.meta["n_features"])

    def __getitem__(self, feature: int) -> Entries:
        """Return the entries of a feature: views of the file, checked where they lie."""
        file, start, stop = self._span(feature)
        return Entries(file.read("frames", start, stop), file.read("values", start, stop))

    def count(self, feature: int) -> int:
        """Return how many entries a feature has."""
        _, start, stop = self._span(feature)
        return stop - start

    def run(self, feature: int, first: int, last: int) -> Entries:
        """Return entries `first:last` of a feature, counted from its first; no others are read."""
        file, start, stop = self._span(feature)
        last = min(start + last, stop)
        return Entries(file.read("frames", start + first, last), file.read("values", start + first, last))

    def clip_list(self, feature: int) -> ClipList | None:
        """Return the clip list of a feature, if it is heavy enough to have one (see `otoscope.atlas.format`)."""
        part, at = self._place(feature)
        file = self._sealed.arrays(postings_part(part))
        heavy = file.read("heavy")
        i = int(heavy.searchsorted(at))
        if i == len(heavy) or heavy[i] != at:
            return None
        start, stop = file.read("clip_indptr", i, i + 2).tolist()
        return ClipList(*(file.read(name, start, stop) for name in ("clip", "clip_first", "peak_frame", "peak")))

    def counts(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Return how many entries features `first:last` have."""
        found = [np.zeros(0, dtype=np.int64)]
        while first < last:
            part, at = self._place(first)
            start = first - at
            end = min(last, self._firsts[part + 1] if part + 1 < len(self._firsts) else self.n_features)
            found.append(np.diff(self._sealed.arrays(postings_part(part)).read("indptr", at, end - start + 1)))
            first = end
        return np.concatenate(found)

    def __len__(self) -> int:
        """Number of entries of all features."""
        return int(self._sealed.meta["postings"]["n_entries"])

    def _place(self, feature: int) -> tuple[int, int]:
        """Part of a feature, and its number there."""
        part = bisect_right(self._firsts, feature) - 1
        return part, feature - self._firsts[part]

    def _span(self, feature: int) -> tuple[ArrayFile, int, int]:
        """Where the entries of a feature lie."""
        part, at = self._place(feature)
        file = self._sealed.arrays(postings_part(part))
        start, stop = file.read("indptr", at, at + 2).tolist()
        return file, start, stop
