"""A few seconds of synthesised sound, so that a harvest takes a moment."""

from __future__ import annotations

import numpy as np
import pytest

from otoscope.audio import SAMPLE_RATE_HZ, Clip, Corpus


@pytest.fixture(scope="session")
def tones() -> Corpus:
    """Twelve clips of 0.1 to 8 s: shorter than a frame's worth of context, and longer than the model's window."""
    rng = np.random.default_rng(0)
    durations_s = [0.1, 0.5, 1.0, 0.73, 2.0, 8.0, 0.31, 1.5, 0.02, 1.1, 6.0, 0.9]
    clips = []
    for i, duration_s in enumerate(durations_s):
        time_s = np.arange(int(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        sound = 0.3 * np.sin(2 * np.pi * (200 + 90 * i) * time_s) + 0.01 * rng.standard_normal(len(time_s))
        clips.append(Clip.from_samples(sound, SAMPLE_RATE_HZ, clip_id=f"tone-{i}"))
    return Corpus("tones", clips)
