"""The features each clip excites most, collected while the features pass by."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from otoscope.evaluation.by_feature import Block

N_PEAKS = 32
"""Features kept per clip."""


class ClipPeaks:
    """For every clip, the features that it excites most and other clips do not; ties go to the lower feature.

    A feature's score in a clip is its peak there as a share of its maximum, times the share of all clips that peak
    lower. So a unit that saturates in every clip (GELU's negative side) stands out in none.
    """

    def __init__(self, n_clips: int, clip_of_frame: npt.NDArray[np.int32]) -> None:
        self.clip_of_frame = clip_of_frame
        self.score = np.zeros((n_clips, N_PEAKS), dtype=np.float32)
        self.share = np.zeros((n_clips, N_PEAKS), dtype=np.float32)
        self.feature = np.full((n_clips, N_PEAKS), -1, dtype=np.int64)
        self.frame = np.zeros((n_clips, N_PEAKS), dtype=np.int64)
        self.value = np.zeros((n_clips, N_PEAKS), dtype=np.float32)

    def add(self, block: Block) -> None:
        """Take in the features of a block, frames ascending."""
        _add(
            block.first, block.indptr, block.frames, block.values, self.clip_of_frame,
            self.score, self.share, self.feature, self.frame, self.value,
        )  # fmt: skip

    def columns(self) -> dict[str, npt.NDArray[np.generic]]:
        """Rows of `peaks.parquet`: clip by clip, the strongest first."""
        order = np.lexsort((self.feature, -self.score), axis=1)
        clip, slot = np.nonzero(np.take_along_axis(self.feature, order, axis=1) >= 0)
        column = order[clip, slot]
        return {
            "clip": clip.astype(np.int32),
            "feature": self.feature[clip, column],
            "frame": self.frame[clip, column],
            "value": self.value[clip, column],
            "share_of_max": self.share[clip, column],
            "score": self.score[clip, column],
        }


@numba.njit(cache=True, nogil=True)
def _add(  # type: ignore[no-untyped-def]
    first, indptr, frames, values, clip_of_frame, score, share, feature, frame, value
):
    n_clips = len(score)
    clips = np.empty(n_clips, dtype=np.int64)
    best = np.empty(n_clips, dtype=np.int64)
    for i in range(len(indptr) - 1):
        n = 0  # clips where the feature is active, and the entry of its peak in each
        for entry in range(indptr[i], indptr[i + 1]):
            clip = clip_of_frame[frames[entry]]
            if n == 0 or clips[n - 1] != clip:
                clips[n] = clip
                best[n] = entry
                n += 1
            elif values[entry] > values[best[n - 1]]:
                best[n - 1] = entry
        if n == 0:
            continue
        ranked = np.sort(values[best[:n]])
        for j in range(n):
            clip, entry = clips[j], best[j]
            lower = n_clips - n + np.searchsorted(ranked, values[entry])
            new = values[entry] / ranked[n - 1] * (lower / n_clips)
            weakest = np.argmin(score[clip])
            if new > score[clip, weakest]:
                score[clip, weakest] = new
                share[clip, weakest] = values[entry] / ranked[n - 1]
                feature[clip, weakest] = first + i
                frame[clip, weakest] = frames[entry]
                value[clip, weakest] = values[entry]
