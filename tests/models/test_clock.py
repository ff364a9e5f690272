"""The clock: which moment a frame stands for."""

from __future__ import annotations

import doctest

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from otoscope.models import Clock
from otoscope.models import clock as clock_module

CLOCK = Clock()
clocks = st.sampled_from([CLOCK, Clock(0.02, 0.0125), Clock(0.01), Clock(5 / 16000, 5 / 16000)])
"""Whisper's, that of models with unpadded convolutions, and those of convolutions."""
frames = st.integers(0, 400_000)


@given(clocks, frames)
def test_a_frame_is_the_one_nearest_to_its_own_time(clock: Clock, frame: int) -> None:
    assert clock.frame(clock.time_s(frame)) == frame


@given(frames)
def test_whole_frames_are_counted_without_rounding_up(count: int) -> None:
    assert CLOCK.n_frames(count * 0.02) == count
    assert CLOCK.n_frames(count * 0.02 + 0.001) == count + 1


@given(clocks, st.floats(0, 1000), st.floats(0.001, 1000))
def test_a_span_holds_the_centres_inside_it(clock: Clock, start_s: float, length_s: float) -> None:
    first, stop = clock.span(start_s, start_s + length_s)
    assert first < stop
    if stop - first > 1:
        assert clock.time_s(first) >= start_s - 1e-6
        assert clock.time_s(stop - 1) < start_s + length_s + 1e-6


@given(clocks, frames, st.integers(1, 500))
def test_neighbouring_spans_share_no_frame(clock: Clock, frame: int, count: int) -> None:
    middle_s = clock.time_s(frame + count)
    assert clock.span(clock.time_s(frame), middle_s)[1] == clock.span(middle_s, middle_s + 0.1)[0]


def test_whisper_runs_at_fifty_positions_a_second() -> None:
    assert CLOCK.positions_hz == 50
    assert CLOCK.time_s(1499) == 29.98


def test_the_documented_example_is_true() -> None:
    assert doctest.testmod(clock_module) == (0, 1)


@given(clocks, st.lists(st.floats(-1, 1000), max_size=20))
def test_many_times_are_placed_as_each_of_them_is(clock: Clock, times: list[float]) -> None:
    found = clock.first_after_each(np.array(times)[:, None])
    assert found.tolist() == [[clock.first_after(time)] for time in times]
