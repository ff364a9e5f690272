"""What can be heard in every frame of a clip without any label: four acoustic measures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.audio import Clip
from otoscope.evaluation.acoustics import acoustics
from otoscope.models import Clock

MEASURES = ("energy_db", "tilt_db", "voicing", "f0_hz")
"""Columns of `measures`: see `otoscope.evaluation.acoustics.Acoustics`; f0 is NaN where nothing is voiced."""


def frame_measures(clip: Clip, clock: Clock, n_frames: int) -> npt.NDArray[np.float32]:
    """Return the measures `[t, 4]` of a clip's frames."""
    times_s = np.arange(n_frames) * clock.frame_s + clock.offset_s
    found = acoustics(clip.samples(), times_s)
    return np.stack([getattr(found, name) for name in MEASURES], axis=1).astype(np.float32)
