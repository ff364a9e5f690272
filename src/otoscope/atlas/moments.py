"""Clips, and which of them a frame of the corpus belongs to."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from otoscope.atlas.format import CLIPS
from otoscope.atlas.postings import Entries
from otoscope.errors import InputError, nearest
from otoscope.storage.arrays import Strings
from otoscope.storage.sealed import SealedFolder

Ints = npt.NDArray[np.int64]


class ClipPeaks(NamedTuple):
    """The clips in which a feature is active, ascending: frame (of the corpus) and value of the peak in each.

    Those of `clips[i]` are entries `bounds[i]:bounds[i + 1]` of the feature, counted from its first.
    """

    clips: Ints
    frames: Ints
    values: npt.NDArray[np.float32]
    bounds: Ints


class Clips:
    """The clips of an atlas, in corpus order."""

    def __init__(self, sealed: SealedFolder) -> None:
        self._file = sealed.arrays(CLIPS)
        self.ids = Strings(self._file, "clip_id")
        self.speakers = Strings(self._file, "speaker")
        self.n_frames_in_all = int(sealed.meta["n_frames"])

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, clip_id: str) -> bool:
        """Whether there is a clip with this id."""
        return self._position(clip_id) is not None

    @cached_property
    def starts(self) -> Ints:
        """First frame of every clip, counted from the first frame of the corpus."""
        return np.asarray(self._file.read("first_frame"))

    @cached_property
    def bounds(self) -> Ints:
        """`starts`, and the number of all frames last."""
        return np.append(self.starts, self.n_frames_in_all)

    @cached_property
    def frame_bounds(self) -> npt.NDArray[np.uint32]:
        """`bounds` in the type of entries' frames: comparing them with many frames converts none of these."""
        return self.bounds.astype(np.uint32)

    @cached_property
    def half(self) -> npt.NDArray[np.uint8]:
        """0 where labels were chosen, 1 where they were scored."""
        return np.asarray(self._file.read("half"))

    def span(self, clip: int) -> tuple[int, int]:
        """First frame of a clip in the corpus, and the frame after its last."""
        start, count = (
            int(self._file.read("first_frame", clip, clip + 1)[0]),
            int(self._file.read("n_frames", clip, clip + 1)[0]),
        )
        return start, start + count

    def index(self, clip_id: str, owner: str = "This atlas") -> int:
        """Return the position of a clip.

        Raises:
            InputError: no such clip; says the nearest ids.
        """
        found = self._position(clip_id)
        if found is None:
            raise InputError(f"{owner} has no clip {clip_id!r}{nearest(clip_id, self.ids.all()) or '.'}")
        return found

    def of(self, frames: npt.NDArray[np.integer]) -> Ints:
        """`[e]` the clip of each of some ascending frames."""
        if len(frames) < len(self.starts):
            return np.searchsorted(self.starts, frames, side="right") - 1
        first = np.searchsorted(frames, self.frame_bounds.astype(frames.dtype))
        return np.repeat(np.arange(len(self.starts)), np.diff(first))

    def peaks(self, entries: Entries) -> ClipPeaks:
        """Return the peak of a feature in every clip where it is active; the earliest frame where several tie."""
        frames, values = entries
        if len(frames) == 0:
            return ClipPeaks(
                np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(1, np.int64)
            )
        if len(frames) < len(self.starts):
            clip = self.of(frames)
            first = np.flatnonzero(np.concatenate(([True], clip[1:] != clip[:-1])))
            clips = clip[first]
        else:
            starts = np.searchsorted(frames, self.frame_bounds.astype(frames.dtype))
            clips = np.flatnonzero(starts[1:] != starts[:-1])
            first = starts[clips]
        highest = np.maximum.reduceat(values, first)
        bounds = np.append(first, len(frames))
        peak = np.flatnonzero(values == np.repeat(highest, np.diff(bounds)))
        if len(peak) > len(first):  # several frames of a clip tie
            segment = np.searchsorted(first, peak, side="right") - 1
            peak = peak[np.concatenate(([True], segment[1:] != segment[:-1]))]
        return ClipPeaks(clips, frames[peak].astype(np.int64), highest, bounds)

    def _position(self, clip_id: str) -> int | None:
        """Compare ids of the right length byte by byte from the end: a table of all would cost more than a search."""
        offsets, text = self._file.read("clip_id.offsets"), self._file.read("clip_id.utf8")
        wanted = clip_id.encode(errors="surrogatepass")
        left = np.flatnonzero(np.diff(offsets) == len(wanted))
        for back, byte in enumerate(reversed(wanted), 1):
            left = left[text[offsets[left + 1] - back] == byte]
        return int(left[0]) if len(left) else None
