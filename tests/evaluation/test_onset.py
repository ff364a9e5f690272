"""Onset-aligned profiles find when a feature rises and how long it lasts, and are flat around moved onsets."""

from __future__ import annotations

import numpy as np
import pytest
from planted_speech import value
from planted_words import EARLY_S, MORNING, N_NOISE, OPEN_VOWEL, M, N, Spoken

from otoscope.errors import InputError
from otoscope.evaluation import OnsetProfiles, best_pairs, onset_measures, onset_profiles
from otoscope.evaluation.frames import TEST

FEATURES = [M, OPEN_VOWEL, EARLY_S]
ONSET = 10
"""Index of the first frame of a phone in a profile."""


@pytest.fixture(scope="module")
def profiles(spoken: Spoken) -> OnsetProfiles:
    return onset_profiles(spoken.dictionary, spoken.frames, features=FEATURES)


def test_a_profile_is_the_mean_over_events_of_the_scored_voices(spoken: Spoken, profiles: OnsetProfiles) -> None:
    frames = spoken.frames
    labels = frames.label_set("phone")
    strength = frames.code(spoken.dictionary)[:, M].toarray()[:, 0]
    m = labels.frame_class == labels.classes.index("m")
    test = frames.half_of_frame == TEST
    onsets = 1 + np.flatnonzero(m[1:] & ~m[:-1] & test[1:])
    ends = 1 + np.flatnonzero(~m[1:] & m[:-1] & test[1:])
    assert profiles.n_events[0] == len(onsets)
    for lag in (-3, 0, 2, 6):
        assert profiles.onset[0, ONSET + lag] == pytest.approx(strength[onsets + lag].mean())
        assert profiles.offset[0, ONSET + lag] == pytest.approx(strength[ends + lag].mean())
    clip = frames.clip_of_frame
    early = onsets[clip[onsets - 8] == clip[onsets]]
    assert 0 < len(early) < len(onsets), "some clips begin with the phone"
    assert profiles.onset[0, ONSET - 8] == pytest.approx(strength[early - 8].mean())
    assert strength[early - 8].mean() > 0
    inside = (profiles.onset_low <= profiles.onset + 1e-9) & (profiles.onset <= profiles.onset_high + 1e-9)
    assert inside.all()
    assert profiles.lags_s[ONSET] == pytest.approx(0.01), "the onset lies half a frame before the first frame"


def test_a_feature_of_a_phone_lasts_as_long_as_the_phone(spoken: Spoken, profiles: OnsetProfiles) -> None:
    assert profiles.classes == ("m", "ɔ", "s")
    assert profiles.latency_s[:2] == pytest.approx(0, abs=0.002)
    assert profiles.duration_s[:2] == pytest.approx(0.12, abs=0.02), "phones last 4 to 8 frames of 20 ms"
    assert (profiles.duration_low[:2] < profiles.duration_s[:2]).all()
    assert (profiles.duration_s[:2] < profiles.duration_high[:2]).all()


def test_a_feature_of_the_second_and_third_frame_comes_late_and_is_short(profiles: OnsetProfiles) -> None:
    assert profiles.latency_s[2] == pytest.approx(0.02, abs=1e-3)
    assert profiles.duration_s[2] == pytest.approx(0.04, abs=1e-3)
    assert profiles.onset[2, ONSET] == 0
    assert profiles.onset[2, ONSET + 1] > 0.9


def test_around_moved_onsets_a_profile_is_nearly_flat(spoken: Spoken, profiles: OnsetProfiles) -> None:
    assert (profiles.contrast > 0.99).all(), "elsewhere these features are silent"
    assert (profiles.contrast_chance < 0.5).all()


def test_figures_over_classes_come_with_their_interval_and_chance(spoken: Spoken) -> None:
    measures = onset_measures(spoken.dictionary, spoken.frames, "word")
    (contrast,) = [m for m in measures if m.name == "onset.contrast"]
    assert contrast.low <= contrast.value <= contrast.high
    assert contrast.n == len(spoken.frames.label_set("word").classes)
    assert 0 < value(measures, "onset.contrast.chance", kind="word") < contrast.value


def test_profiles_of_words_are_aligned_to_words(spoken: Spoken) -> None:
    found = onset_profiles(spoken.dictionary, spoken.frames, "word", features=[MORNING])
    assert found.classes == ("morning",)
    assert found.latency_s[0] == pytest.approx(0, abs=0.002)
    assert np.isnan(found.duration_s[0]), "five phones last longer than the window"


def test_without_a_choice_each_class_comes_with_the_feature_that_finds_it_best(spoken: Spoken) -> None:
    features, classes = best_pairs(spoken.dictionary, spoken.frames, "phone")
    names = spoken.frames.label_set("phone").classes
    best = {names[c]: feature for feature, c in zip(features, classes, strict=True)}
    assert (best["m"], best["ɔ"], best["s"]) == (M, OPEN_VOWEL, EARLY_S)


@pytest.mark.parametrize(("features", "message"), [([N], "There is no feature 12"), ([N - N_NOISE], "finds no class")])
def test_features_that_cannot_be_aligned_are_refused(spoken: Spoken, features: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        onset_profiles(spoken.dictionary, spoken.frames, "word", features=features)
