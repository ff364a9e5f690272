"""What can be written here: every format, and which channels, rates and depths it can carry."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import NamedTemporaryFile

import av
import numpy as np
import soundfile

RATES_HZ = (8000, 11025, 16000, 22050, 44100, 48000, 96000)
CHANNELS = (1, 2, 6)
DEPTHS = ("8", "16", "24", "float")
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_OPUS_RATES = (8000, 16000, 48000)
_MP3_RATES = (8000, 11025, 16000, 22050, 44100, 48000)
_MP2_RATES = (16000, 22050, 44100, 48000)
_AC3_RATES = (44100, 48000)

Write = Callable[[np.ndarray, int], bytes]
"""`write(samples [n, channels], rate_hz)` gives the bytes of a recording."""


@dataclass(frozen=True)
class Format:
    """One way to write a recording. `depths` maps a depth to how it is written; lossy formats have "lossy" only.

    `likeness` is the least correlation a lossy codec must keep; `padding_s` is what its frames may add.
    `left_out` says what the format cannot carry, or what its writer here gets wrong.
    """

    name: str
    depths: dict[str, Write]
    channels: tuple[int, ...] = CHANNELS
    rates_hz: tuple[int, ...] = RATES_HZ
    likeness: float = 1.0
    padding_s: float = 0.0
    left_out: str = ""


def _sndfile(container: str, subtype: str) -> Write:
    def write(samples: np.ndarray, rate_hz: int) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, samples, rate_hz, format=container, subtype=subtype)
        return file.getvalue()

    return write


def through_ffmpeg(container: str, codec: str, sample_format: str | None = None, **options: str) -> Write:
    def write(samples: np.ndarray, rate_hz: int) -> bytes:
        layout = LAYOUTS[samples.shape[1]]
        with NamedTemporaryFile() as file, av.open(file.name, "w", format=container, options=options) as out:
            stream = out.add_stream(codec, rate=rate_hz, layout=layout)
            if sample_format is not None:
                stream.codec_context.format = sample_format
            stream.codec_context.open()
            size = stream.codec_context.frame_size or 1024
            planes = np.ascontiguousarray(samples.T, dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate_hz, 0
            to_codec = av.AudioResampler(stream.codec_context.format, layout, rate_hz, frame_size=size)
            for piece in [*to_codec.resample(frame), *to_codec.resample(None)]:
                out.mux(stream.encode(piece))
            out.mux(stream.encode(None))
            out.close()
            return file.read()

    return write


def _pcm(container: str, eight: str | None = "PCM_S8", *, wide: bool = True) -> dict[str, Write]:
    depths = {} if eight is None else {"8": _sndfile(container, eight)}
    depths["16"] = _sndfile(container, "PCM_16")
    if wide:
        depths |= {"24": _sndfile(container, "PCM_24"), "float": _sndfile(container, "FLOAT")}
    return depths


def _lossy(write: Write) -> dict[str, Write]:
    return {"lossy": write}


_NO_24_IN = "the writer here has 16-bit only"
_NO_FLOAT = "no float in this format"

FORMATS = (
    Format("wav", _pcm("WAV", "PCM_U8")),
    Format("wavex", _pcm("WAVEX", "PCM_U8")),
    Format("rf64", _pcm("RF64", "PCM_U8")),
    Format("w64", _pcm("W64", "PCM_U8")),
    Format("aiff", _pcm("AIFF")),
    Format("au", _pcm("AU")),
    Format("caf", _pcm("CAF")),
    Format("ircam", {"16": _sndfile("IRCAM", "PCM_16"), "float": _sndfile("IRCAM", "FLOAT")}, left_out="8, 24: none"),
    Format(
        "mat5",
        {"8": _sndfile("MAT5", "PCM_U8"), "16": _sndfile("MAT5", "PCM_16"), "float": _sndfile("MAT5", "FLOAT")},
        left_out="24: none",
    ),
    Format("sphere", {d: w for d, w in _pcm("NIST").items() if d != "float"}, left_out=f"float: {_NO_FLOAT}"),
    Format("flac", {d: w for d, w in _pcm("FLAC").items() if d != "float"}, left_out=f"float: {_NO_FLOAT}"),
    Format("caf/alac", {"16": _sndfile("CAF", "ALAC_16"), "24": _sndfile("CAF", "ALAC_24")}, left_out="8, float: none"),
    Format(
        "mov/pcm",
        {
            "16": through_ffmpeg("mov", "pcm_s16le"),
            "24": through_ffmpeg("mov", "pcm_s24le"),
            "float": through_ffmpeg("mov", "pcm_f32le"),
        },
        left_out="8: sound of QuickTime files is 16-bit or more in practice",
    ),
    Format("m4a/alac", {"16": through_ffmpeg("ipod", "alac", "s16p"), "24": through_ffmpeg("ipod", "alac", "s32p")}),
    Format("mp4/flac", {"16": through_ffmpeg("mp4", "flac", "s16")}, left_out=f"24: {_NO_24_IN}; float: {_NO_FLOAT}"),
    Format(
        "mkv/flac", {"16": through_ffmpeg("matroska", "flac", "s16")}, left_out=f"24: {_NO_24_IN}; float: {_NO_FLOAT}"
    ),
    Format("mkv/pcm", {"16": through_ffmpeg("matroska", "pcm_s16le"), "24": through_ffmpeg("matroska", "pcm_s24le")}),
    Format("ogg/flac", {"16": through_ffmpeg("ogg", "flac", "s16")}, left_out=f"24: {_NO_24_IN}; float: {_NO_FLOAT}"),
    Format("avi/pcm", {"16": through_ffmpeg("avi", "pcm_s16le")}),
    Format("tta", {"8": through_ffmpeg("tta", "tta", "u8"), "16": through_ffmpeg("tta", "tta", "s16")}),
    Format("wavpack", {"8": through_ffmpeg("wv", "wavpack", "u8p"), "16": through_ffmpeg("wv", "wavpack", "s16p")}),
    Format("wav/ulaw", _lossy(_sndfile("WAV", "ULAW")), likeness=0.999),
    Format("wav/alaw", _lossy(_sndfile("WAV", "ALAW")), likeness=0.999),
    Format("wav/adpcm", _lossy(_sndfile("WAV", "IMA_ADPCM")), (1, 2), likeness=0.98, padding_s=0.07, left_out="5.1"),
    Format("wav/gsm", _lossy(_sndfile("WAV", "GSM610")), (1,), likeness=0.85, padding_s=0.04, left_out="mono only"),
    Format(
        "wav/mp3", _lossy(through_ffmpeg("wav", "libmp3lame")), (1, 2), _MP3_RATES, 0.9, 0.21, left_out="5.1, 96 kHz"
    ),
    Format("ogg/vorbis", _lossy(_sndfile("OGG", "VORBIS")), likeness=0.98),
    Format("ogg/opus", _lossy(_sndfile("OGG", "OPUS")), CHANNELS, _OPUS_RATES, 0.98, left_out="Opus rates only"),
    Format("webm/opus", _lossy(through_ffmpeg("webm", "libopus")), CHANNELS, _OPUS_RATES, 0.99, 0.01),
    Format("mp4/opus", _lossy(through_ffmpeg("mp4", "libopus")), CHANNELS, _OPUS_RATES, 0.97, 0.02),
    Format("mp3", _lossy(_sndfile("MP3", "MPEG_LAYER_III")), (1, 2), _MP3_RATES, 0.99, left_out="5.1, 96 kHz: none"),
    Format("mp2", _lossy(through_ffmpeg("mp2", "mp2")), (1, 2), _MP2_RATES, 0.94, 0.07),
    Format("m4a/aac", _lossy(through_ffmpeg("ipod", "aac")), likeness=0.97, padding_s=0.13),
    Format("mp4/aac", _lossy(through_ffmpeg("mp4", "aac", movflags="faststart")), likeness=0.97, padding_s=0.13),
    Format("aac", _lossy(through_ffmpeg("adts", "aac")), likeness=0.92, padding_s=0.25),
    Format("mpegts/aac", _lossy(through_ffmpeg("mpegts", "aac")), likeness=0.92, padding_s=0.25),
    Format("flv/aac", _lossy(through_ffmpeg("flv", "aac")), (1, 2), likeness=0.92, padding_s=0.25, left_out="5.1"),
    Format("mkv/aac", _lossy(through_ffmpeg("matroska", "aac")), likeness=0.97, padding_s=0.13),
    Format("mkv/mp3", _lossy(through_ffmpeg("matroska", "libmp3lame")), (1, 2), _MP3_RATES, 0.9, 0.01),
    Format("ac3", _lossy(through_ffmpeg("ac3", "ac3")), CHANNELS, _AC3_RATES, 0.96, 0.02),
    Format("eac3", _lossy(through_ffmpeg("eac3", "eac3")), CHANNELS, _AC3_RATES, 0.96, 0.02),
    Format(
        "amr", _lossy(through_ffmpeg("amr", "libopencore_amrnb")), (1,), (8000,), 0.64, 0.03, left_out="8 kHz mono only"
    ),
    Format("3gp/amr", _lossy(through_ffmpeg("3gp", "libopencore_amrnb")), (1,), (8000,), 0.64, 0.03),
)

NOT_TESTED = {
    "wma/asf": "no encoder that takes float frames here; read through FFmpeg, untested",
    "ape, mpc, ra, dts": "no encoder here",
    "webm/vorbis": "FFmpeg's own Vorbis encoder is experimental and switched off",
    "caf/alac 20-bit, paf 24-bit 5.1, wav/g721, voc 8-bit": "libsndfile does not read back what it writes",
    "svx, mpc2k, wve, sds, htk": "rates beyond 16 bits do not fit the header, or only one channel and rate",
    "raw, sd2, xi": "no header that tells the rate",
}
"""Formats named so that nobody thinks they were tested, with the reason."""


def multitone(n: int, rate_hz: int) -> np.ndarray:
    """Five tones that every rate from 8 kHz can carry: float32 `[n]`, RMS 0.19."""
    time_s = np.arange(n) / rate_hz
    tones = (np.sin(2 * np.pi * hz * time_s + phase) for phase, hz in enumerate((220, 517, 1033, 2111, 3001)))
    return (0.12 * sum(tones)).astype(np.float32)  # type: ignore[no-any-return, attr-defined]


def as_channels(mono: np.ndarray, channels: int) -> np.ndarray:
    """Give each channel another gain, so that only their average is the sound again: `[n, channels]`."""
    gains = np.linspace(0.4, 1.6, channels) if channels > 1 else np.ones(1)
    return (mono[:, None] * gains).astype(np.float32)
