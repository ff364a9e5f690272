"""The report counts what it says: exact times are within everything, shifted ones are not, lost ones count against."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.alignment import boundary_report, uniform_tier
from otoscope.audio import Interval
from otoscope.errors import InputError

WORDS = (Interval(0.1, 0.4, "one"), Interval(0.4, 0.9, "two"), Interval(1.2, 1.5, "three"))


def moved(tier: tuple[Interval, ...], by_s: float) -> tuple[Interval, ...]:
    return tuple(Interval(each.start_s + by_s, each.end_s + by_s, each.label) for each in tier)


def test_equal_tiers_agree_wholly() -> None:
    report = boundary_report([WORDS], [WORDS])
    assert report.within == {20: 1.0, 50: 1.0, 100: 1.0}
    assert (report.median_ms, report.missed, report.extra) == (0.0, 0, 0)
    assert report.boundaries == 5  # three starts; the ends of "two" and "three"


@given(shift_ms=st.integers(-150, 150))
def test_a_shift_is_measured_as_it_is(shift_ms: int) -> None:
    report = boundary_report([moved(WORDS, shift_ms / 1000)], [WORDS], n_resamples=2)
    assert report.bias_ms == pytest.approx(shift_ms, abs=1e-6)
    assert report.p95_ms == pytest.approx(abs(shift_ms), abs=1e-6)
    assert report.within == {ms: float(abs(shift_ms) <= ms) for ms in (20, 50, 100)}


def test_a_lost_word_counts_as_outside_and_an_invented_one_is_named() -> None:
    report = boundary_report([WORDS[1:]], [WORDS])
    assert report.missed == 1
    assert report.within[100] == pytest.approx(4 / 5)
    report = boundary_report([WORDS], [WORDS[1:]])
    assert (report.missed, report.extra) == (0, 1)


def test_another_label_at_the_same_place_is_the_same_boundary() -> None:
    other = (*WORDS[:2], Interval(1.2, 1.5, "tree"))
    assert boundary_report([other], [WORDS]).within[20] == 1.0


def test_the_interval_comes_from_clips_not_from_boundaries() -> None:
    good, bad = [WORDS] * 5, [moved(WORDS, 0.3)] * 5
    report = boundary_report(good + bad, [WORDS] * 10)
    low, high = report.within_interval[20]
    assert report.within[20] == 0.5
    assert low <= 0.3
    assert high >= 0.7


def test_the_uniform_control_covers_the_clip_evenly() -> None:
    tier = uniform_tier(["a", "b"], 1.0)
    assert tier == (Interval(0.0, 0.5, "a"), Interval(0.5, 1.0, "b"))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="give one each"):
        boundary_report([WORDS], [])
    with pytest.raises(InputError, match="no interval"):
        boundary_report([WORDS], [()])
