"""A span is that part of the whole, sample for sample, in every format; resampling is exact in level, time and band."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from recording_formats import FORMATS, Format, as_channels

from otoscope.audio import SAMPLE_RATE_HZ, containers, decode
from otoscope.audio.decoding import _resampled, resample

DURATION_S = 4.2
AAC_NOISE = 0.03  # AAC fills noisy bands with random numbers, so a decoder that started elsewhere differs a little
RATES_HZ = (8000, 11025, 22050, 44100, 48000, 96000, 44056)


def sweep(n: int, rate_hz: int) -> np.ndarray:
    """A rising tone with a beat: every moment is unlike every other."""
    time_s = np.arange(n) / rate_hz
    beat = 0.6 + 0.4 * np.sin(2 * np.pi * 3.3 * time_s)
    rising = np.cos(2 * np.pi * (150 + (3000 - 150) * time_s / (2 * DURATION_S)) * time_s)
    return (0.3 * beat * rising).astype(np.float32)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_a_span_is_that_part_of_the_whole(form: Format) -> None:
    rng = np.random.default_rng(list(form.name.encode()))
    rate_hz = 44100 if 44100 in form.rates_hz else form.rates_hz[0]
    depth = min(form.depths)
    recording = form.depths[depth](as_channels(sweep(int(DURATION_S * rate_hz), rate_hz), 1), rate_hz)
    whole = decode(recording)
    for start_s in (0.0, 0.02, 2.37, *rng.uniform(0, DURATION_S - 0.3, 6)):
        end_s = min(DURATION_S, start_s + rng.uniform(0.05, 2.0))
        part = decode(recording, start_s=start_s, end_s=end_s)
        expected = whole[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
        assert len(part) == len(expected)
        tolerance = AAC_NOISE if "aac" in form.name else 2e-3 if depth == "lossy" else 1e-4
        np.testing.assert_allclose(part, expected, atol=tolerance, err_msg=f"{form.name} from {start_s} to {end_s}")


def test_a_span_one_sample_beside_would_be_noticed() -> None:
    whole = sweep(int(DURATION_S * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    assert np.abs(whole[1:] - whole[:-1]).max() > 2 * AAC_NOISE


def tone(hz: float, rate_hz: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz).astype(np.float32)


def level_db(samples: np.ndarray, hz: float) -> float:
    """Level of a tone against full scale, away from the ends."""
    inner = samples[2000:-2000].astype(np.float64)
    window = np.hanning(len(inner))
    turning = np.exp(-2j * np.pi * hz * np.arange(len(inner)) / SAMPLE_RATE_HZ)
    return float(20 * np.log10(2 * abs((inner * window * turning).sum()) / window.sum() + 1e-30))


@pytest.mark.parametrize("rate_hz", [22050, 44100, 48000, 96000, 44056])
def test_a_tone_above_the_new_limit_disappears(rate_hz: int) -> None:
    for hz in (8900, 9500, 10500, *((15000, 17000, 21000) if rate_hz > 43000 else ())):
        left = resample(tone(hz, rate_hz), rate_hz)[2000:-2000]
        assert 20 * np.log10(np.abs(left).max()) < -80, hz


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_tone_below_the_limit_keeps_its_level(rate_hz: int) -> None:
    for hz in (60, 440, 1000, 3000, *((5000, 7000) if rate_hz > 16000 else ())):
        assert abs(level_db(resample(tone(hz, rate_hz), rate_hz), hz)) < 0.1, hz


@pytest.mark.parametrize("rate_hz", [rate for rate in RATES_HZ if rate > 16000])
def test_leaving_samples_out_would_be_noticed(rate_hz: int) -> None:
    thinned = tone(10500, rate_hz)[:: rate_hz // SAMPLE_RATE_HZ + 1]
    assert 20 * np.log10(np.abs(thinned).max()) > -3


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_impulses_stay_in_place(rate_hz: int) -> None:
    for at_s in (0.1, 0.25, 0.5, 0.93):
        clicks = np.zeros(rate_hz, np.float32)
        at = round(at_s * rate_hz)
        clicks[at] = 1.0
        heard = resample(clicks, rate_hz).astype(np.float64)
        centre = (np.arange(len(heard)) * heard**2).sum() / (heard**2).sum()
        assert abs(centre - at / rate_hz * SAMPLE_RATE_HZ) < 0.02, at_s


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_resampling_in_blocks_equals_resampling_the_whole(rate_hz: int) -> None:
    sound = np.random.default_rng(rate_hz).standard_normal(rate_hz).astype(np.float32)
    cuts = np.sort(np.random.default_rng(1).integers(0, len(sound), 12))
    streamed = np.concatenate(list(_resampled(iter(np.split(sound, cuts)), rate_hz)))
    whole = resample(sound, rate_hz)
    assert len(streamed) == len(whole)
    np.testing.assert_allclose(streamed, whole, atol=1e-5)


@pytest.mark.parametrize("form", [form for form in FORMATS if "lossy" in form.depths], ids=lambda form: form.name)
def test_blocks_have_no_seams(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    rate_hz = 44100 if 44100 in form.rates_hz else form.rates_hz[0]
    recording = form.depths["lossy"](as_channels(sweep(2 * rate_hz, rate_hz), 1), rate_hz)
    at_once = decode(recording)
    monkeypatch.setattr(containers, "_BLOCK_SAMPLES", 5000)
    np.testing.assert_allclose(decode(recording), at_once, atol=1e-4)


@pytest.mark.parametrize("name", ["webm/opus", "mp4/opus", "m4a/aac", "m4a/alac"])
def test_what_lies_before_a_span_is_not_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    form = next(form for form in FORMATS if form.name == name)
    recording = form.depths[min(form.depths)](as_channels(sweep(20 * 16000, 16000), 1), 16000)
    decoded: list[float] = []
    frames = containers.AvContainer._frames

    def counted(self: containers.AvContainer, packets: Any) -> Iterator[Any]:
        for frame in frames(self, packets):
            decoded.append(frame.samples / frame.sample_rate)
            yield frame

    monkeypatch.setattr(containers.AvContainer, "_frames", counted)
    assert len(decode(recording, start_s=15.0, end_s=16.0)) == SAMPLE_RATE_HZ
    assert 1.0 < sum(decoded) < 3.5
