"""The clock: which moment of the recording an encoder position stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FRAME_S = 0.02
"""Seconds between two encoder positions (Whisper, wav2vec2 and HuBERT alike)."""

_SLACK = 1e-6
"""Frames of tolerance, so that 0.06 s / 0.02 s counts three frames and not four."""


@dataclass(frozen=True)
class Clock:
    """Maps frames to seconds and back: frame t is centred at `frame_s · t + offset_s`.

    >>> Clock().time_s(50)
    1.0
    """

    frame_s: float = FRAME_S
    offset_s: float = 0.0

    @property
    def positions_hz(self) -> float:
        """Frames per second."""
        return 1.0 / self.frame_s

    def time_s(self, frame: float) -> float:
        """Return the centre of `frame` in seconds."""
        return frame / self.positions_hz + self.offset_s

    def frame(self, time_s: float) -> int:
        """Return the frame whose centre is nearest to `time_s` (never below 0)."""
        return max(0, round((time_s - self.offset_s) * self.positions_hz))

    def n_frames(self, duration_s: float) -> int:
        """Return how many frames a recording of `duration_s` seconds fills: `ceil(duration / frame_s)`."""
        return math.ceil(duration_s * self.positions_hz - _SLACK)

    def first_after(self, time_s: float) -> int:
        """Return the first frame whose centre lies at `time_s` or later (never below 0)."""
        return max(0, math.ceil((time_s - self.offset_s) * self.positions_hz - _SLACK))

    def first_after_each(self, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return `first_after` of each of many times, in their shape."""
        import numpy as np

        found = np.ceil((times_s - self.offset_s) * self.positions_hz - _SLACK)
        return np.clip(found, 0, 2**62).astype(np.int64)

    def span(self, start_s: float, end_s: float) -> tuple[int, int]:
        """Return `(first, stop)`: the frames whose centres lie in `start_s <= centre < end_s`.

        A span so short that no centre falls inside it gets the one nearest frame.
        """
        first, stop = self.first_after(start_s), self.first_after(end_s)
        if stop <= first:
            first = self.frame(start_s)
            stop = first + 1
        return first, stop
