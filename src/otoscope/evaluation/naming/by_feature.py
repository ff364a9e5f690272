"""Active entries feature by feature: what naming and scoring read."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Block:
    """All active entries of features `first … first + len − 1`.

    Entry range `indptr[i]:indptr[i+1]` belongs to feature `first + i`; `frames` ascend within each feature and count
    from the first frame of the corpus.
    """

    first: int
    indptr: npt.NDArray[np.int64]
    frames: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """Number of features."""
        return len(self.indptr) - 1


def ranking(indptr: npt.NDArray[np.int64], values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Return the entries `[e]` of each feature in order of falling value, ties as they come; values must be positive.

    Positive floats order like their bits, so value and entry pack into one integer and a plain sort is enough.
    """
    keys = (np.uint64(0xFFFFFFFF) - values.view(np.uint32).astype(np.uint64)) << np.uint64(32)
    keys |= np.arange(len(values), dtype=np.uint64)
    for start, stop in itertools.pairwise(indptr):
        keys[start:stop].sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def rank_entries(
    indptr: npt.NDArray[np.int64], frames: npt.NDArray[np.uint32], values: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """Order each feature's entries by falling value, ties as they come; values must be positive."""
    order = ranking(indptr, values)
    return frames[order], values[order]
