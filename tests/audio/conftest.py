"""Recordings made on the spot: the same sound in every container the package promises to read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

RATE_HZ = 16000
DURATION_S = 6.0


def make_speechlike(n: int, seed: int = 0) -> np.ndarray:
    """A buzz with moving harmonics, pauses and some noise: float32 `[n]` at 16 kHz."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(n) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 2.5 * time_s)) / RATE_HZ
    voice = sum(np.sin(k * phase) / k for k in range(1, 25))
    loudness = np.clip(np.sin(2 * np.pi * 1.3 * time_s), 0, None)
    return (0.15 * voice * loudness + 0.002 * rng.standard_normal(n)).astype(np.float32)


def write_av(path: Path, container: str, codec: str, samples: np.ndarray, rate_hz: int, **options: str) -> None:
    """Write mono `samples` through FFmpeg."""
    with av.open(str(path), "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        size = 960 if codec == "libopus" else 1024
        to_codec = av.AudioResampler(stream.codec_context.format, "mono", rate_hz, frame_size=size)
        for piece in [*to_codec.resample(frame), *to_codec.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))


@pytest.fixture(scope="session")
def speechlike() -> Callable[..., np.ndarray]:
    """`speechlike(n_samples, seed=0)` makes sound that changes as speech does."""
    return make_speechlike


@pytest.fixture(scope="session")
def sound() -> np.ndarray:
    """What all recordings hold."""
    return make_speechlike(int(DURATION_S * RATE_HZ))


@pytest.fixture(scope="session")
def recordings(sound: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sound as files by kind; `recorder.webm` declares no duration, as browsers' recordings do."""
    folder = tmp_path_factory.mktemp("recordings")
    at_48k = soxr.resample(sound, RATE_HZ, 48000)
    for name in ("sound.wav", "sound.flac", "sound.ogg", "sound.mp3"):
        soundfile.write(folder / name, sound, RATE_HZ)
    soundfile.write(folder / "sound.opus", sound, RATE_HZ, format="OGG", subtype="OPUS")
    six = np.repeat(soxr.resample(sound, RATE_HZ, 96000)[:, None], 6, axis=1)
    soundfile.write(folder / "studio.wav", six, 96000, subtype="PCM_24")
    soundfile.write(folder / "telephone.wav", soxr.resample(sound, RATE_HZ, 8000), 8000, subtype="ULAW")
    write_av(folder / "sound.m4a", "mp4", "aac", at_48k, 48000)
    write_av(folder / "sound.mp4", "mp4", "aac", at_48k, 48000, movflags="faststart")
    write_av(folder / "sound.aac", "adts", "aac", at_48k, 48000)
    write_av(folder / "sound.webm", "webm", "libopus", at_48k, 48000)
    write_av(folder / "recorder.webm", "webm", "libopus", at_48k, 48000, live="1")
    return {path.name: path for path in folder.iterdir()}
