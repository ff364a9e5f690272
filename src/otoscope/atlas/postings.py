"""In which frames every feature is active: the inverted half of the index, in parts of whole features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from otoscope.atlas.format import postings_part
from otoscope.storage.sealed import SealedFolder


class Entries(NamedTuple):
    """Frames (ascending, counted from the corpus's first) and values of one feature."""

    frames: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]


class Postings:
    """Reads the entries of one feature at a time from memory-mapped parts."""

    def __init__(self, sealed: SealedFolder) -> None:
        self._sealed = sealed
        self._firsts = np.array([part["first"] for part in sealed.meta["postings"]["parts"]], dtype=np.int64)
        self.n_features = int(sealed.meta["n_features"])

    def __getitem__(self, feature: int) -> Entries:
        """Return the entries of a feature: views of the file, checked where they lie."""
        part = int(np.searchsorted(self._firsts, feature, side="right")) - 1
        file = self._sealed.arrays(postings_part(part))
        at = feature - int(self._firsts[part])
        start, stop = file.read("indptr", at, at + 2).tolist()
        return Entries(file.read("frames", start, stop), file.read("values", start, stop))

    def counts(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Return how many entries features `first:last` have."""
        found = [np.zeros(0, dtype=np.int64)]
        while first < last:
            part = int(np.searchsorted(self._firsts, first, side="right")) - 1
            start = int(self._firsts[part])
            end = min(last, int(self._firsts[part + 1]) if part + 1 < len(self._firsts) else self.n_features)
            found.append(
                np.diff(self._sealed.arrays(postings_part(part)).read("indptr", first - start, end - start + 1))
            )
            first = end
        return np.concatenate(found)

    def __len__(self) -> int:
        """Number of entries of all features."""
        return int(self._sealed.meta["postings"]["n_entries"])
