"""Which features are active in every frame: the forward half of the index, in parts of whole clips."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from otoscope.atlas.format import codes_part
from otoscope.storage.arrays import ArrayFile
from otoscope.storage.sealed import SealedFolder


class FrameCode(NamedTuple):
    """Active features of consecutive frames: those of frame t are `indptr[t]:indptr[t + 1]`, features ascending."""

    indptr: npt.NDArray[np.int64]
    features: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.indptr) - 1

    def part(self, first: int, stop: int) -> FrameCode:
        """Return the code of frames `first:stop`; those that there are."""
        stop = min(stop, self.n_frames)
        first = min(first, stop)
        lo, hi = int(self.indptr[first]), int(self.indptr[stop])
        return FrameCode(self.indptr[first : stop + 1] - lo, self.features[lo:hi], self.values[lo:hi])

    @classmethod
    def joined(cls, pieces: Sequence[FrameCode]) -> FrameCode:
        """Return the code of the frames of all `pieces`, one after another; of one piece, itself."""
        if len(pieces) == 1:
            return pieces[0]
        counts = [np.zeros(0, np.int64), *(np.diff(piece.indptr) for piece in pieces)]
        return cls(
            np.concatenate(([0], np.cumsum(np.concatenate(counts)))).astype(np.int64),
            np.concatenate([np.zeros(0, np.uint32), *(piece.features for piece in pieces)]),
            np.concatenate([np.zeros(0, np.float32), *(piece.values for piece in pieces)]),
        )

    def frame_of_entry(self) -> npt.NDArray[np.int64]:
        """`[e]` the frame (from 0) that each entry belongs to."""
        return np.repeat(np.arange(self.n_frames), np.diff(self.indptr))


class Codes:
    """Reads the code of any run of frames from memory-mapped parts."""

    def __init__(self, sealed: SealedFolder) -> None:
        self._sealed = sealed
        parts: list[dict[str, Any]] = sealed.meta["codes"]["parts"]
        self.first_frames = [int(part["first_frame"]) for part in parts]
        self.n_frames = int(sealed.meta["n_frames"])

    def __getitem__(self, frames: slice) -> FrameCode:
        """Return the code of frames `start:stop` of the corpus."""
        start, stop, _ = frames.indices(self.n_frames)
        pieces = []
        for file, first, last in self._runs(start, stop):
            indptr = file.read("indptr", first, last + 1)
            lo, hi = int(indptr[0]), int(indptr[-1])
            pieces.append(FrameCode(indptr - lo, file.read("features", lo, hi), file.read("values", lo, hi)))
        return FrameCode.joined(pieces)

    def entries(self, start: int, stop: int) -> Iterator[tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]]:
        """Yield features and values of frames `start:stop`, whichever frame they belong to, part after part."""
        for file, first, last in self._runs(start, stop):
            lo, hi = int(file.read("indptr", first, first + 1)[0]), int(file.read("indptr", last, last + 1)[0])
            yield file.read("features", lo, hi), file.read("values", lo, hi)

    def measures(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return the acoustic measures of frames `start:stop`, `[t, 4]`."""
        pieces = [file.read("measures", first, last) for file, first, last in self._runs(start, stop)]
        return np.concatenate([np.zeros((0, 4), np.float32), *pieces])

    def _runs(self, start: int, stop: int) -> Iterator[tuple[ArrayFile, int, int]]:
        """Yield the parts that hold frames `start:stop`, and which of their own frames these are."""
        while start < stop:
            part = bisect_right(self.first_frames, start) - 1
            first = self.first_frames[part]
            last = self.first_frames[part + 1] if part + 1 < len(self.first_frames) else self.n_frames
            end = min(stop, last)
            yield self._sealed.arrays(codes_part(part)), start - first, end - first
            start = end
