"""The features each clip excites most, collected while the features pass by."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from otoscope.atlas.inversion import Block

N_PEAKS = 32
"""Features kept per clip."""


class ClipPeaks:
    """For every clip, the features that come closest there to their own maximum; ties go to the lower feature."""

    def __init__(self, n_clips: int, clip_of_frame: npt.NDArray[np.int32]) -> None:
        self.clip_of_frame = clip_of_frame
        self.share = np.zeros((n_clips, N_PEAKS), dtype=np.float32)
        self.feature = np.full((n_clips, N_PEAKS), -1, dtype=np.int64)
        self.frame = np.zeros((n_clips, N_PEAKS), dtype=np.int64)
        self.value = np.zeros((n_clips, N_PEAKS), dtype=np.float32)

    def add(self, block: Block) -> None:
        """Take in the features of a block, frames ascending."""
        _add(
            block.first, block.indptr, block.frames, block.values, self.clip_of_frame,
            self.share, self.feature, self.frame, self.value,
        )  # fmt: skip

    def columns(self) -> dict[str, npt.NDArray[np.generic]]:
        """Rows of `peaks.parquet`: clip by clip, the strongest first."""
        order = np.lexsort((self.feature, -self.share), axis=1)
        clip, slot = np.nonzero(np.take_along_axis(self.feature, order, axis=1) >= 0)
        column = order[clip, slot]
        return {
            "clip": clip.astype(np.int32),
            "feature": self.feature[clip, column],
            "frame": self.frame[clip, column],
            "value": self.value[clip, column],
            "share_of_max": self.share[clip, column],
        }


@numba.njit(cache=True, nogil=True)
def _add(  # type: ignore[no-untyped-def]
    first, indptr, frames, values, clip_of_frame, share, feature, frame, value
):
    for i in range(len(indptr) - 1):
        start, stop = indptr[i], indptr[i + 1]
        top = np.float32(0.0)
        for entry in range(start, stop):
            top = max(top, values[entry])
        entry = start
        while entry < stop:
            clip = clip_of_frame[frames[entry]]
            best = entry
            while entry < stop and clip_of_frame[frames[entry]] == clip:
                if values[entry] > values[best]:
                    best = entry
                entry += 1
            weakest = 0
            for slot in range(1, share.shape[1]):
                if share[clip, slot] < share[clip, weakest]:
                    weakest = slot
            if values[best] / top > share[clip, weakest]:
                share[clip, weakest] = values[best] / top
                feature[clip, weakest] = first + i
                frame[clip, weakest] = frames[best]
                value[clip, weakest] = values[best]
