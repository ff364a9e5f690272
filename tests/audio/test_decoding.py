"""Every container gives the same sound at 16 kHz mono, whole or in part, whatever the file is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.audio import SAMPLE_RATE_HZ, Clip, decode, probe

LOSSLESS = ["sound.wav", "sound.flac", "studio.wav"]
LOSSY = ["sound.ogg", "sound.opus", "sound.mp3", "telephone.wav"]
THROUGH_AV = ["sound.m4a", "sound.mp4", "sound.aac", "sound.webm", "recorder.webm"]


def shared_band(samples: np.ndarray) -> np.ndarray:
    """What a telephone keeps too."""
    return np.asarray(soxr.resample(samples, SAMPLE_RATE_HZ, 6000))


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """The highest correlation within 100 ms of delay: encoders add a little silence in front."""
    n = min(len(a), len(b))
    a, b = shared_band(a[:n]), shared_band(b[:n])
    spectrum = np.fft.rfft(a, 2 * len(a)) * np.conj(np.fft.rfft(b, 2 * len(b)))
    correlation = np.fft.irfft(spectrum)
    near = np.concatenate([correlation[:600], correlation[-600:]])
    return float(near.max() / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize("as_bytes", [False, True], ids=["file", "bytes"])
@pytest.mark.parametrize("name", LOSSLESS + LOSSY + THROUGH_AV)
def test_every_container_gives_the_sound(
    recordings: dict[str, Path], sound: np.ndarray, name: str, as_bytes: bool
) -> None:
    path = recordings[name]
    samples = decode(path.read_bytes() if as_bytes else path)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert abs(len(samples) - len(sound)) < 0.06 * SAMPLE_RATE_HZ
    assert likeness(samples, sound) > 0.98


@pytest.mark.parametrize("name", ["sound.wav", "sound.flac"])
def test_lossless_recordings_are_exact(recordings: dict[str, Path], sound: np.ndarray, name: str) -> None:
    np.testing.assert_allclose(decode(recordings[name]), sound, atol=1 / 32768)


def test_high_rates_are_resampled_without_aliasing() -> None:
    time_s = np.arange(96000) / 96000
    clip = Clip.from_samples(np.sin(2 * np.pi * 11000 * time_s), 96000)  # beyond 8 kHz: must vanish, not fold
    assert np.abs(clip.samples()[500:-500]).max() < 1e-3
    kept = Clip.from_samples(np.sin(2 * np.pi * 5000 * time_s), 96000).samples()
    np.testing.assert_allclose(kept[500:-500], np.sin(2 * np.pi * 5000 * np.arange(16000) / 16000)[500:-500], atol=1e-3)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = np.full(800, 0.5), np.full(800, -0.1)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), SAMPLE_RATE_HZ, subtype="FLOAT")
    np.testing.assert_allclose(decode(tmp_path / "a.wav"), 0.2, atol=1e-6)


@pytest.mark.parametrize("name", ["sound.wav", "sound.flac", "sound.mp3", "sound.webm", "sound.m4a"])
def test_content_decides_and_not_the_name(recordings: dict[str, Path], tmp_path: Path, name: str) -> None:
    disguised = tmp_path / "recording.xyz"
    disguised.write_bytes(recordings[name].read_bytes())
    np.testing.assert_array_equal(decode(disguised), decode(recordings[name]))


@pytest.mark.parametrize("name", LOSSLESS + LOSSY + THROUGH_AV)
@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 0.5), (1.2345, 2.5), (3.3, 5.1), (4.9, None)])
def test_a_span_is_that_part_of_the_whole(
    recordings: dict[str, Path], name: str, start_s: float, end_s: float | None
) -> None:
    whole = decode(recordings[name])
    part = decode(recordings[name], start_s=start_s, end_s=end_s)
    first, last = round(start_s * SAMPLE_RATE_HZ), None if end_s is None else round(end_s * SAMPLE_RATE_HZ)
    expected = whole[first:last]
    assert len(part) == len(expected)
    # AAC fills noisy bands with random numbers, so a decoder that started elsewhere differs a little
    tolerance = 0.03 if name in ("sound.m4a", "sound.mp4") else 1e-3
    np.testing.assert_allclose(part, expected, atol=tolerance)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 5.9), st.floats(0.01, 3))
def test_spans_of_a_resampled_file_lie_on_one_grid(
    recordings: dict[str, Path], start_s: float, length_s: float
) -> None:
    end_s = min(start_s + length_s, 6.0)
    whole = decode(recordings["studio.wav"])
    part = decode(recordings["studio.wav"], start_s=start_s, end_s=end_s)
    first = round(start_s * SAMPLE_RATE_HZ)
    assert len(part) == min(round(end_s * SAMPLE_RATE_HZ), len(whole)) - first
    np.testing.assert_allclose(part, whole[first : first + len(part)], atol=1e-3)


@pytest.mark.parametrize("name", LOSSLESS + LOSSY + THROUGH_AV)
def test_probe_tells_what_decoding_gives(recordings: dict[str, Path], name: str) -> None:
    info = probe(recordings[name])
    assert info.duration_s == pytest.approx(len(decode(recordings[name])) / SAMPLE_RATE_HZ, abs=0.06)
    assert info.channels == (6 if name == "studio.wav" else 1)
    assert info.sample_rate_hz in (8000, 16000, 48000, 96000)


def test_decoded_sound_cannot_be_changed_by_mistake(recordings: dict[str, Path]) -> None:
    clip = Clip.from_file(recordings["sound.wav"])
    with pytest.raises(ValueError, match="read-only"):
        clip.samples()[0] = 1.0
    assert clip.samples() is clip.samples()  # kept for the next reader


def test_a_changed_file_is_decoded_again(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(1600, 0.25), SAMPLE_RATE_HZ)
    clip = Clip.from_file(path)
    assert clip.samples()[0] == pytest.approx(0.25, abs=1e-3)
    soundfile.write(path, np.full(3200, 0.5), SAMPLE_RATE_HZ)
    assert clip.samples()[0] == pytest.approx(0.5, abs=1e-3)
