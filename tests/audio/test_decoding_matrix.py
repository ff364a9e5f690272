"""Every format x channels x rate x depth gives the sound at 16 kHz mono: as long, in place, as exact as its bits."""

from __future__ import annotations

import functools
from itertools import product

import numpy as np
import pytest
from recording_formats import FORMATS, NOT_TESTED, Format, as_channels, multitone

from otoscope.audio import SAMPLE_RATE_HZ, decode, probe
from otoscope.audio.decoding import resample

DURATION_S = 0.3
EDGE = 800  # samples left out of comparisons at both ends, where filters and codecs settle
BITS = {"8": 8, "16": 16, "24": 24}
FLOAT_FLOOR_DB = 120.0


@functools.cache
def expected_sound(rate_hz: int) -> np.ndarray:
    return resample(multitone(round(DURATION_S * rate_hz), rate_hz), rate_hz)


def snr_db(samples: np.ndarray, expected: np.ndarray) -> float:
    inner = slice(EDGE, -EDGE)
    noise = samples[inner].astype(np.float64) - expected[inner]
    return float(10 * np.log10(np.square(expected[inner], dtype=np.float64).sum() / (np.square(noise).sum() + 1e-30)))


@functools.cache
def least_snr_db(depth: str) -> float:
    """What truncation to the depth leaves of a sound of this loudness: noise of one least significant bit."""
    if depth == "float":
        return FLOAT_FLOOR_DB
    loudness = float(np.sqrt(np.square(multitone(8000, 8000)).mean()))
    return min(FLOAT_FLOOR_DB, float(20 * np.log10(loudness * 2 ** (BITS[depth] - 1))))


def best_likeness(samples: np.ndarray, expected: np.ndarray, padding_s: float) -> float:
    """The correlation where both sound, at the best of the delays that the codec may add."""
    n = len(samples) + len(expected)
    correlation = np.fft.irfft(np.fft.rfft(samples, n) * np.conj(np.fft.rfft(expected, n)), n)
    delay = int(correlation[: int((padding_s + 0.02) * SAMPLE_RATE_HZ)].argmax())
    late = samples[delay : delay + len(expected)].astype(np.float64)[EDGE:-EDGE]
    early = expected[EDGE : EDGE + len(late)].astype(np.float64)
    return float(late @ early / (np.linalg.norm(late) * np.linalg.norm(early)))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_every_format_gives_the_sound(form: Format) -> None:
    for channels, rate_hz, (depth, write) in product(form.channels, form.rates_hz, form.depths.items()):
        case = f"{form.name}, {channels} channels, {rate_hz} Hz, {depth}"
        expected = expected_sound(rate_hz)
        sound = as_channels(multitone(round(DURATION_S * rate_hz), rate_hz), channels)
        recording = write(sound, rate_hz)
        samples = decode(recording)
        info = probe(recording)
        assert samples.dtype == np.float32, case
        assert info.channels == channels, case
        if depth != "lossy":
            assert info.sample_rate_hz == rate_hz, case
            assert abs(len(samples) - len(expected)) <= 2, case
            assert snr_db(samples[: len(expected)], expected) >= least_snr_db(depth), case
        else:
            longer_s = (len(samples) - len(expected)) / SAMPLE_RATE_HZ
            assert -0.001 <= longer_s <= form.padding_s + 0.001, (case, longer_s)
            assert best_likeness(samples, expected, form.padding_s) >= form.likeness, case


def test_the_matrix_is_as_wide_as_promised() -> None:
    carried = {(d, c, r) for f in FORMATS for d in f.depths for c in f.channels for r in f.rates_hz}
    assert carried >= set(
        product(("8", "16", "24", "float"), (1, 2, 6), (8000, 11025, 16000, 22050, 44100, 48000, 96000))
    )
    for form in FORMATS:
        is_whole = len(form.channels) == 3 and len(form.rates_hz) == 7 and len(form.depths) == 4
        assert (
            is_whole
            or form.left_out
            or set(form.depths) == {"lossy"}
            or "/" in form.name
            or form.name in ("tta", "wavpack")
        )
    assert all(NOT_TESTED.values())


@pytest.mark.parametrize("kept", [0, 1], ids=["first channel", "second channel"])
def test_one_channel_instead_of_the_average_would_be_noticed(kept: int) -> None:
    expected = expected_sound(16000)
    alone = as_channels(multitone(len(expected), 16000), 2)[:, kept]
    assert snr_db(alone, expected) < least_snr_db("8")


def test_eight_bits_would_not_pass_for_sixteen() -> None:
    write = next(form for form in FORMATS if form.name == "wav").depths["8"]
    expected = expected_sound(16000)
    assert snr_db(decode(write(as_channels(expected, 1), 16000)), expected) < least_snr_db("16")
