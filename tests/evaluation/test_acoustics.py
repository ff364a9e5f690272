"""Loudness, tilt, voicing and pitch are right on sounds that are known; taking them out leaves true features alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_speech import relabelled, value
from planted_words import EARLY_S, LOUD, OPEN_VOWEL, M, Spoken

from otoscope.errors import InputError
from otoscope.evaluation import (
    Acoustics,
    PartialSelectivity,
    acoustics,
    average_precision,
    frame_acoustics,
    partial_measures,
    partial_selectivity,
)
from otoscope.evaluation.frames import TEST

RATE = 16000
TIMES = 0.1 + 0.02 * np.arange(40)
TIME = np.arange(RATE) / RATE
FEATURES = [M, LOUD, OPEN_VOWEL, EARLY_S]


def pulses(f0_hz: float | np.ndarray, n_harmonics: int = 12) -> np.ndarray:
    """A voice-like tone: harmonics that fall by 6 dB per octave."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0_hz, TIME.shape)) / RATE
    return 0.1 * sum(np.sin(h * phase) / h for h in range(1, n_harmonics + 1))


def noise(seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(RATE)


def test_energy_is_the_mean_square_in_decibels() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * TIME)
    assert acoustics(tone, TIMES).energy_db == pytest.approx(10 * np.log10(0.125), abs=0.05)
    assert acoustics(tone / 10, TIMES).energy_db == pytest.approx(10 * np.log10(0.125) - 20, abs=0.05)
    assert acoustics(np.zeros(RATE), TIMES).energy_db == pytest.approx(-80)


@pytest.mark.parametrize("f0_hz", [70.0, 110.0, 187.3, 233.0, 390.0])
def test_pitch_of_a_voice_is_right_to_one_percent_and_never_an_octave_off(f0_hz: float) -> None:
    heard = acoustics(pulses(f0_hz), TIMES)
    assert heard.f0_hz == pytest.approx(f0_hz, rel=0.01)
    assert (heard.voicing > 0.95).all()


def test_pitch_follows_a_glide() -> None:
    heard = acoustics(pulses(np.linspace(120, 240, RATE)), TIMES)
    assert heard.f0_hz == pytest.approx(120 + 120 * TIMES, rel=0.02)


def test_noise_silence_and_hum_under_the_floor_have_no_pitch() -> None:
    for samples in (noise(), np.zeros(RATE), 1e-6 * pulses(120)):
        heard = acoustics(samples, TIMES)
        assert np.isnan(heard.f0_hz).mean() > 0.95
        assert heard.voicing.mean() < 0.4


def test_voicing_falls_as_noise_is_added() -> None:
    levels = [acoustics(pulses(150) + share * noise(), TIMES).voicing.mean() for share in (0, 0.5, 1, 3)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > 0.95 > 0.5 > levels[-1]


def test_tilt_is_the_slope_of_the_spectrum_per_octave() -> None:
    frequency = np.fft.rfftfreq(RATE, 1 / RATE)
    spectrum = np.fft.rfft(noise())
    for slope in (0.0, -6.0, -12.0):
        shaped = np.fft.irfft(spectrum * (np.maximum(frequency, 50) / 1000) ** (slope / 6.02))
        assert acoustics(shaped, TIMES).tilt_db.mean() == pytest.approx(slope, abs=0.5)


def test_each_frame_is_heard_at_its_moment_and_beyond_the_recording_is_silence() -> None:
    samples = np.concatenate([np.zeros(RATE // 2), noise()[: RATE // 2]])
    heard = acoustics(samples, np.array([-1.0, 0.2, 0.46, 0.5, 0.54, 0.9, 3.0]))
    assert heard.energy_db[[0, 1, 2, 6]] == pytest.approx(-80)
    assert heard.energy_db[3] == pytest.approx(-23, abs=1.5), "half of the window"
    assert heard.energy_db[[4, 5]] == pytest.approx(-20, abs=1.5)


@pytest.fixture(scope="module")
def heard(spoken: Spoken) -> Acoustics:
    return frame_acoustics(spoken.corpus, spoken.frames)


@pytest.fixture(scope="module")
def found(spoken: Spoken, heard: Acoustics) -> PartialSelectivity:
    return partial_selectivity(spoken.dictionary, spoken.frames, heard, features=FEATURES)


def test_frames_of_a_corpus_are_heard_one_by_one(spoken: Spoken, heard: Acoustics) -> None:
    labels = spoken.frames.label_set("phone")
    vowel, noisy = (labels.frame_class == labels.classes.index(phone) for phone in "ɔs")
    assert np.median(heard.voicing[vowel]) > 0.9 > 0.3 > np.median(heard.voicing[noisy])
    assert heard.energy_db[vowel].mean() - heard.energy_db[labels.frame_class < 0].mean() > 20
    clip = int(np.flatnonzero(spoken.frames.half == TEST)[0])
    speaker = int(str(spoken.corpus[spoken.frames.clips[clip]].speaker)[1:])
    own = vowel & (spoken.frames.clip_of_frame == clip)
    assert np.nanmedian(heard.f0_hz[own]) == pytest.approx(100 + 15 * speaker, rel=0.02)


def test_a_feature_of_loudness_loses_the_loud_phone_and_a_feature_of_the_phone_keeps_it(
    found: PartialSelectivity,
) -> None:
    loud, vowel = FEATURES.index(LOUD), FEATURES.index(OPEN_VOWEL)
    assert found.classes[loud] == found.classes[vowel] == "ɔ"
    assert found.auroc[loud] > 0.85
    assert found.auroc_low[loud] < 0.5 < found.auroc_high[loud]
    assert found.partial_ap[loud] < found.chance_ap[loud] + 0.1 < found.ap[loud] - 0.2
    assert found.explained[loud] > 0.95
    assert found.auroc_low[vowel] > 0.7
    assert found.partial_ap[vowel] > 0.7 > 0.2 > found.chance_ap[vowel]
    assert found.q_value[vowel] < 1e-6


def test_features_of_phones_that_are_not_loud_keep_their_selectivity(found: PartialSelectivity) -> None:
    assert found.partial_ap[FEATURES.index(M)] > 0.6
    early = FEATURES.index(EARLY_S)
    assert found.partial_ap[early] > found.chance_ap[early] + 0.2
    assert found.partial_auroc[early] < 0.5, "where a short feature is silent, what is left is below zero"
    measures = partial_measures(found)
    assert value(measures, "partial.kept", kind="phone") == 3 / 4
    (mean,) = [m for m in measures if m.name == "partial.auroc"]
    assert mean.low < mean.value < mean.high < value(measures, "partial.auroc.raw", kind="phone")


def test_before_the_regression_scores_are_the_plain_ones(spoken: Spoken, found: PartialSelectivity) -> None:
    at, classes = spoken.frames.named("phone", TEST)
    strength = spoken.frames.code(spoken.dictionary)[at][:, M].toarray()[:, 0]
    m = spoken.frames.label_set("phone").classes.index("m")
    assert found.ap[0] == pytest.approx(average_precision(strength, classes == m), abs=0.02)


def test_with_acoustics_of_nothing_loudness_passes_for_a_phone(spoken: Spoken, heard: Acoustics) -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(len(heard))
    other = Acoustics(heard.energy_db[order], heard.tilt_db[order], heard.voicing[order], heard.f0_hz[order])
    fooled = partial_selectivity(spoken.dictionary, spoken.frames, other, features=[LOUD])
    assert fooled.partial_auroc[0] > 0.8


def test_labels_dealt_at_random_leave_nothing(spoken: Spoken, heard: Acoustics) -> None:
    control = relabelled(spoken.frames, "phone")
    labels = control.label_set("phone")
    nothing = partial_selectivity(spoken.dictionary, control, heard, "phone")
    assert np.abs(nothing.partial_auroc - 0.5).mean() < 0.06
    assert value(partial_measures(nothing), "partial.kept", kind="phone") <= 1 / len(labels.classes)


def test_acoustics_of_other_frames_are_refused(spoken: Spoken, heard: Acoustics) -> None:
    few = Acoustics(*(column[:9] for column in (heard.energy_db, heard.tilt_db, heard.voicing, heard.f0_hz)))
    with pytest.raises(InputError, match="acoustics of 9 frames for 7200 frames"):
        partial_selectivity(spoken.dictionary, spoken.frames, few)
    with pytest.raises(InputError, match="lacks 48 clips"):
        frame_acoustics(replace_corpus(spoken), spoken.frames)


def replace_corpus(spoken: Spoken) -> object:
    return type(spoken.corpus)("other", [replace(clip, clip_id=f"x{clip.clip_id}") for clip in spoken.corpus])
