"""Rung 2: what features listen to in the sound itself is told from the recordings, and nothing is told of chance."""

from __future__ import annotations

import numpy as np
import pytest
from planted_world import DIMS, SITE, PlantedModel

from otoscope.atlas import Atlas, build_atlas
from otoscope.atlas.interpretation import Interpretation, Trials, card_of, interpret
from otoscope.atlas.interpretation.descriptors import NAMES, compare, measure, named
from otoscope.atlas.interpretation.moments import Surroundings
from otoscope.audio import Clip, Corpus
from otoscope.dictionaries import Neurons

RATE = 16000
HISS, HUM, CHANCE, ONSET = range(4)
"""What the units do: active in hiss above 4 kHz, in a hum at 120 Hz, at random, and where hiss begins."""


def burst(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    t = np.arange(n) / RATE
    if kind == "hum":
        return 0.2 * sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 9))
    spectrum = np.fft.rfft(rng.normal(size=n))
    spectrum[np.fft.rfftfreq(n, 1 / RATE) < 4000] = 0
    return 0.1 * np.fft.irfft(spectrum, n)


@pytest.fixture(scope="module")
def sounds() -> tuple[Corpus, Atlas]:
    """Clips of hiss and hum in a low noise, of which no label is known."""
    rng = np.random.default_rng(0)
    clips, frames = [], {}
    for i in range(24):
        samples = 0.001 * rng.normal(size=2 * RATE)
        x = np.zeros((100, 8), dtype=np.float32)
        at = 0.15
        while at < 1.6:
            kind, length = str(rng.choice(["hiss", "hum"])), float(rng.uniform(0.12, 0.25))
            a, b = int(at * RATE), int((at + length) * RATE)
            samples[a:b] += burst(rng, kind, b - a)
            inside = slice(round(at / 0.02) + 1, round((at + length) / 0.02))
            x[inside, HISS if kind == "hiss" else HUM] = rng.uniform(1, 3)
            if kind == "hiss":
                x[round(at / 0.02) + 1, ONSET] = rng.uniform(1, 3)
            at += length + float(rng.uniform(0.15, 0.3))
        x[rng.random(100) < 0.1, CHANCE] = rng.uniform(1, 3)
        clip = Clip.from_samples(samples.astype(np.float32), RATE, clip_id=f"clip-{i:02d}", speaker=f"voice-{i % 6}")
        clips.append(clip)
        frames[clip.clip_id] = x
    corpus = Corpus("sounds", clips)
    model = PlantedModel(frames, dims=DIMS)
    return corpus, build_atlas(model, Neurons(SITE, 8, name="units"), corpus, progress=False)


@pytest.fixture(scope="module")
def found(sounds: tuple[Corpus, Atlas]) -> dict[int, Interpretation]:
    corpus, atlas = sounds
    units = [HISS, HUM, CHANCE, ONSET]
    return {each.feature: each for each in interpret(atlas, corpus, units, trials=Trials(n_null=3), progress=False)}


def test_what_a_feature_listens_to_is_said_and_holds_on_other_voices(found: dict[int, Interpretation]) -> None:
    expected = {
        HISS: "a flat, hissing spectrum",
        HUM: "much of the energy below 500 Hz",
        ONSET: "just after the level rose",
    }
    for unit, said in expected.items():
        rung = found[unit].rung(2)
        assert rung is not None
        assert said in rung.explanation
        assert rung.verdict == "supported"
        assert rung.score.balanced_accuracy > 0.8 > 0.7 > rung.score.null
    assert "unvoiced" not in found[HUM].rung(2).explanation


def test_of_chance_nothing_holds(found: dict[int, Interpretation]) -> None:
    assert found[CHANCE].best is None


def test_without_labels_there_is_no_first_rung_and_no_table_of_phones(
    sounds: tuple[Corpus, Atlas], found: dict[int, Interpretation]
) -> None:
    corpus, atlas = sounds
    assert found[HISS].rung(1).verdict == "not tried"
    card = card_of(atlas, corpus, HISS)
    assert set(card.tables) <= {"heard", "voice"}
    assert ", unvoiced, centroid" in card.to_markdown()


def test_measures_are_those_of_known_sounds() -> None:
    rng = np.random.default_rng(1)
    samples = 1e-4 * rng.normal(size=RATE)
    samples[4000:8000] += burst(rng, "hum", 4000)
    samples[10000:14000] += burst(rng, "hiss", 4000)
    corpus = Corpus("one", [Clip.from_samples(samples.astype(np.float32), RATE, clip_id="a")])
    look = Surroundings(corpus)
    times = {"hum": 0.375, "hiss": 0.75, "rise": 0.265, "fall": 0.485, "quiet": 0.56}
    rows = measure(corpus, [look.moment(0, round(t / 0.02), t, 0.0) for t in times.values()])
    of = {name: dict(zip(NAMES, row, strict=True)) for name, row in zip(times, rows, strict=True)}
    assert of["hum"]["f0_hz"] == pytest.approx(120, rel=0.02)
    assert np.isnan(of["hiss"]["f0_hz"])
    assert of["hiss"]["centroid_hz"] == pytest.approx(6000, rel=0.1)
    assert of["hum"]["band_0_500"] > -2 > -20 > of["hiss"]["band_0_500"]
    assert of["hiss"]["band_4000_8000"] > -1 > -20 > of["hum"]["band_4000_8000"]
    level = 10 * np.log10(np.square(burst(rng, "hum", 4000)).mean())
    assert of["hum"]["energy_db"] == pytest.approx(level, abs=1.0)
    assert of["rise"]["rise_db"] > 20 > 3 > abs(of["hum"]["rise_db"])
    assert of["fall"]["fall_db"] < -20
    assert of["quiet"]["energy_db"] < -70
    assert of["rise"]["flux_db"] > 3 * of["hum"]["flux_db"]


def test_differences_are_cohens_d_within_their_interval_and_chance_is_not_named() -> None:
    rng = np.random.default_rng(2)
    silent = rng.normal(size=(200, len(NAMES))) + 10
    active = rng.normal(size=(200, len(NAMES))) + 10
    loud = NAMES.index("energy_db")
    active[:, loud] += 1.0
    clips = [f"clip-{i // 5}" for i in range(200)]
    found = compare(active, silent, clips, clips)
    a, b = active[:, loud], silent[:, loud]
    d = (a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    assert found[loud].d == pytest.approx(d)
    assert found[loud].low < d < found[loud].high
    assert [each.fragment for each in named(found)] == ["loud"]
    swapped = compare(silent, active, clips, clips)
    assert swapped[loud].fragment == "quiet"
    assert swapped[loud].d == pytest.approx(-d)


def test_a_difference_that_rests_on_one_clip_is_not_named() -> None:
    rng = np.random.default_rng(3)
    silent, active = rng.normal(size=(2, 100, len(NAMES))) + 10
    clips = [f"clip-{i}" for i in range(100)]
    active[:60, NAMES.index("energy_db")] += 5
    of_one = compare(active, silent, ["clip-0"] * 60 + clips[60:], ["clip-0"] * 60 + clips[60:])
    assert "loud" not in [each.fragment for each in named(of_one)]
    assert "loud" in [each.fragment for each in named(compare(active, silent, clips, clips))]
