"""Words keep out of pauses, and where there are no pauses nothing moves."""

from __future__ import annotations

import numpy as np
import pytest

import otoscope as oto
from otoscope.alignment.loudness import loud_frames, out_of_pauses
from otoscope.audio import Interval

RATE = 16000


def sound(*parts: tuple[float, float]) -> oto.Clip:
    """Noise of the given lengths and levels, one after another."""
    rng = np.random.default_rng(0)
    return oto.Clip.from_samples(
        np.concatenate([level * rng.normal(size=round(length_s * RATE)) for length_s, level in parts]), RATE
    )


SPEECH = sound((0.5, 1e-5), (0.6, 0.1), (0.4, 1e-5), (0.5, 0.1), (0.5, 1e-5))


def test_loud_frames_are_where_the_sound_is() -> None:
    loud = np.flatnonzero(loud_frames(SPEECH)) * 0.01
    assert loud[0] == pytest.approx(0.5, abs=0.02)
    assert loud[-1] == pytest.approx(2.0, abs=0.02)


def test_edges_in_a_pause_move_to_the_sound_and_the_last_word_lasts_as_long_as_it() -> None:
    words = [Interval(0.0, 0.8, "one"), Interval(0.8, 1.4, "two"), Interval(1.4, 1.7, "three")]
    found = out_of_pauses(words, SPEECH)
    edges = [edge for word in found for edge in (word.start_s, word.end_s)]
    assert edges == pytest.approx([0.5, 0.8, 0.8, 1.1, 1.5, 2.0], abs=0.021)
    assert [word.label for word in found] == ["one", "two", "three"]


def test_the_closure_of_a_stop_is_no_pause() -> None:
    clip = sound((0.5, 0.1), (0.1, 1e-5), (0.5, 0.1))
    words = [Interval(0.0, 0.55, "a"), Interval(0.55, 1.1, "b")]
    assert out_of_pauses(words, clip)[1].start_s == 0.55


def test_without_pauses_nothing_moves() -> None:
    clip = sound((1.0, 0.1))
    words = [Interval(0.1, 0.4, "a"), Interval(0.4, 0.9, "b")]
    found = out_of_pauses(words, clip)
    assert found[0] == words[0]
    assert found[1].start_s == 0.4
    assert out_of_pauses([], clip) == []


def test_a_word_wholly_in_a_pause_stays_where_it_was_put() -> None:
    words = [Interval(1.2, 1.4, "lost"), Interval(1.6, 1.9, "b")]
    assert out_of_pauses(words, SPEECH)[0] == words[0]
