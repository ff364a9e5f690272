"""Opening a recording by what is in it: libsndfile where it knows the format, PyAV for everything else."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

import av
import numpy as np
import soundfile

from otoscope.audio.headers import refuse_bad_header
from otoscope.errors import InputError

MAX_BYTES = 200 * 2**20
"""The largest recording accepted as bytes (an upload)."""

Source = str | os.PathLike[str] | bytes
_BLOCK_SAMPLES = 1 << 16  # samples of all channels decoded at a time
_UNKNOWN_LENGTH = 1 << 60  # libsndfile's frame count for a stream that does not say its length
_WITH_MEMORY = {"OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"}
_MPEG_PADDING = 3 * 1152  # frames of encoder delay and of filling up at the end
_AV_TOLERANCE_S = 0.5  # tracks may end a little before the container
_MAX_STREAMS = 100
_RATES_HZ = (1000, 768000)
_AV_FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,"
    "mpc,mpc8,mpeg,mpegts,ogg,rm,tta,w64,wav,wv"
)
"""Containers PyAV may open: none that reads other files or addresses (playlists, manifests, scripts)."""


@functools.cache
def _av_options() -> dict[str, str]:
    """Keep FFmpeg to sound: no other files, and no decoder of pictures or subtitles, not even to probe."""
    sound = []
    for name in sorted(av.codecs_available):
        with contextlib.suppress(ValueError):  # those that only encode
            if av.codec.Codec(name, "r").type == "audio":
                sound.append(name)
    return {"format_whitelist": _AV_FORMATS, "codec_whitelist": ",".join(sound), "max_streams": str(_MAX_STREAMS)}


@dataclass(frozen=True)
class AudioInfo:
    """What a recording says about itself; `duration_s` is counted where the header does not tell."""

    duration_s: float
    sample_rate_hz: int
    channels: int
    format: str


class Container(Protocol):
    """An open recording: its rate, its length if the header tells, and its sound as mono blocks."""

    name: str
    rate_hz: int
    channels: int
    format: str
    declared_s: float | None

    def duration_s(self) -> float: ...
    def blocks(self, start_frame: int) -> Iterator[np.ndarray]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...


def open_container(source: Source, name: str) -> Container:
    """Open a file or the bytes of one; `name` is how errors call bytes.

    Raises:
        InputError: missing, a folder, empty, text, truncated, too large as bytes, or not audio.
    """
    file, name = _open_file(source, name)
    try:
        head = file.read(4096)
        refuse_bad_header(file, head, name)
        file.seek(0)
        try:
            return SoundfileContainer(file, name)
        except _NotForSoundfileError:
            file.seek(0)
            return AvContainer(file, name)
    except BaseException:
        file.close()
        raise


def _open_file(source: Source, name: str) -> tuple[BinaryIO, str]:
    if isinstance(source, bytes):
        if len(source) > MAX_BYTES:
            raise InputError(
                f"{name} has {len(source) / 2**20:.0f} MB, over the limit of {MAX_BYTES // 2**20} MB; "
                "cut or compress it."
            )
        if not source:
            raise InputError(f"{name} is empty (0 bytes).")
        return io.BytesIO(source), name
    path = Path(source)
    name = str(path)
    if path.is_dir():
        raise InputError(f"{name} is a folder, not a recording; give a file, or open the folder as a corpus.")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{name} is empty (0 bytes).")
        return open(path, "rb"), name
    except FileNotFoundError:
        raise InputError(f"{name} does not exist.") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.") from error


def _checked_format(rate_hz: int, channels: int, name: str) -> None:
    if not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
        raise InputError(
            f"{name} has a sample rate of {rate_hz} Hz; supported are {_RATES_HZ[0]} to {_RATES_HZ[1]} Hz."
        )
    if channels < 1:
        raise InputError(f"{name} has no audio channel.")


def _opus_samples(packet: Any) -> int:
    """Return the samples (48 kHz) in an Opus packet, from its first two bytes (RFC 6716, section 3.1)."""
    head = bytes(memoryview(packet)[:2])
    if not head:
        return 0
    config, code = head[0] >> 3, head[0] & 3
    if config < 12:  # SILK
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:  # hybrid
        frame = (480, 960)[config & 1]
    else:  # CELT
        frame = 120 << (config & 3)
    if code == 3:
        return frame * (head[1] & 0x3F) if len(head) > 1 else 0
    return frame * (1, 2, 2)[code]


def _averaged(block: np.ndarray) -> np.ndarray:
    """Return the mean over the channels of `[n, channels]`."""
    if block.shape[1] == 1:
        return block[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused further on, with its place
        return np.asarray(block.mean(axis=1, dtype=np.float32))


class _NotForSoundfileError(Exception):
    """libsndfile does not know this format, or not its length."""


class _Straight(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read straight on.

    `SoundFile.read` seeks after every block to where it already is, which makes the MP3 decoder forget the frames
    that the next ones are built on: sound is lost at each seam. It does not do so when a file cannot seek.
    """

    @property
    def can_seek(self) -> bool:
        return bool(super().seekable())

    def seekable(self) -> bool:
        return False


class SoundfileContainer:
    """WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF, CAF… through libsndfile."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        try:
            self._sound = _Straight(file)
        except (soundfile.LibsndfileError, TypeError) as error:
            raise _NotForSoundfileError from error
        if self._sound.frames >= _UNKNOWN_LENGTH or not self._sound.can_seek:
            self._sound.close()
            raise _NotForSoundfileError
        self.rate_hz: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        self.format = f"{self._sound.format}/{self._sound.subtype}"
        _checked_format(self.rate_hz, self.channels, name)
        self.declared_s: float | None = self._sound.frames / self.rate_hz
        # headers of MPEG sound, or libsndfile's guess where there is none, count what the decoder drops
        self._padding_frames = _MPEG_PADDING if self._sound.subtype.startswith("MPEG") else 0

    def duration_s(self) -> float:
        return self.declared_s or 0.0

    def _settling_frames(self) -> int:
        """Return how much before a span must be decoded for the span to be exact."""
        if self._sound.subtype == "VORBIS":
            return int(self._sound.frames)  # libsndfile 1.2.2 lands up to a block beside the place it is sent to
        return self.rate_hz if self._sound.subtype in _WITH_MEMORY else 0

    def blocks(self, start_frame: int) -> Iterator[np.ndarray]:
        """Yield mono float32 blocks from `start_frame` to the end.

        Raises:
            InputError: damaged, or shorter than the header says.
        """
        frames = max(1, _BLOCK_SAMPLES // self.channels)
        position = max(0, start_frame - self._settling_frames())
        try:
            if position:
                self._sound.seek(position)
            while position < self._sound.frames:
                block = self._sound.read(frames, dtype="float32", always_2d=True)
                if not len(block):
                    break
                late = block[max(0, start_frame - position) :]
                position += len(block)
                if len(late):
                    yield _averaged(late)
        except soundfile.LibsndfileError as error:
            raise InputError(f"{self.name} is damaged or truncated ({error}).") from error
        if position < self._sound.frames - self._padding_frames:
            raise InputError(
                f"{self.name} is truncated: {position / self.rate_hz:.2f} s of the "
                f"{self._sound.frames / self.rate_hz:.2f} s its header announces are there; copy it again."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._sound.close()
        self._file.close()


class AvContainer:
    """M4A, MP4, WebM, AAC… through PyAV, from an open file: no container can make it open another."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        self._open()
        if not self._container.streams.audio:
            self._container.close()
            raise InputError(f"{name} has no audio track.")
        context = self._stream.codec_context
        if context is None:
            raise InputError(f"{name} has an audio track in a format that cannot be decoded.")
        container = self._container.format.name
        self.rate_hz: int = context.sample_rate or 0
        self.channels: int = context.channels
        self.format = f"{container.split(',')[0].upper()}/{context.name.upper()}"
        _checked_format(self.rate_hz, self.channels, name)
        self._origin_s = float((self._stream.start_time or 0) * self._stream.time_base)
        self.declared_s = self._header_s() if container.startswith(("mov", "matroska")) else None
        self._has_exact_index = container.startswith("mov") and self.declared_s is not None
        self._is_counted = container.startswith(("matroska", "mov")) and context.name in ("opus", "libopus")
        self._is_declared = self.declared_s is not None
        self._is_fresh = True

    def _open(self) -> None:
        self._file.seek(0)
        try:
            self._container = av.open(self._file, options=_av_options(), metadata_errors="replace")
        except (av.error.FFmpegError, ValueError) as error:
            raise InputError(
                f"{self.name} is not audio that can be read (unknown or damaged format); "
                "supported are wav, flac, ogg, opus, mp3, m4a, mp4, webm and what else FFmpeg decodes."
            ) from error
        self._stream: Any = next(iter(self._container.streams.audio), None)

    def _header_s(self) -> float | None:
        """Return the length in the header; other containers only let FFmpeg guess it from the bit rate."""
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        if self._container.duration and len(self._container.streams) == 1:
            return float(self._container.duration / av.time_base)
        return None

    def duration_s(self) -> float:
        """Return the declared length, or count it in packets (browser recordings do not declare one)."""
        if self.declared_s is None:
            end_s = 0.0
            self._rewind()
            try:
                for packet in self._container.demux(self._stream):
                    if packet.pts is not None:
                        last = (packet.pts + (packet.duration or 0)) * packet.time_base
                        end_s = max(end_s, float(last) - self._origin_s)
            except av.error.FFmpegError as error:
                raise self._damaged(error) from error
            self.declared_s = end_s
        return self.declared_s

    def blocks(self, start_frame: int) -> Iterator[np.ndarray]:
        """Yield mono float32 blocks from `start_frame` to the end.

        Raises:
            InputError: damaged, or much shorter than the header says.
        """
        self._rewind()
        position: int | None = 0
        first_end: int | None = None
        wanted = start_frame - self.rate_hz  # a second early, so that the decoder has settled
        if wanted > self.rate_hz and self._has_exact_index and not self._is_counted:
            position = self._seek(wanted / self.rate_hz)
        packets = self._container.demux(self._stream)
        try:
            if wanted > self.rate_hz and self._is_counted:
                first_end, packets = self._skip_packets(packets, wanted)
            for frame in self._frames(packets):
                block = _averaged(frame.to_ndarray().reshape(frame.samples, -1))
                if first_end is not None:  # a decoder may drop the beginning of the first packet it sees
                    position, first_end = first_end - len(block), None
                elif position is None:  # after a seek the first frame tells where we are
                    offset_s = float((frame.pts or 0) * frame.time_base) - self._origin_s
                    position = round(offset_s * self.rate_hz)
                skip = min(max(0, start_frame - position), len(block))
                position += len(block)
                if skip < len(block):
                    yield block[skip:]
        except (av.error.FFmpegError, ValueError) as error:
            raise self._damaged(error) from error
        end_s = (position or 0) / self.rate_hz
        if self._is_declared and self.declared_s is not None and end_s < self.declared_s - _AV_TOLERANCE_S:
            raise InputError(
                f"{self.name} is truncated: {end_s:.2f} s of the {self.declared_s:.2f} s its header "
                "announces are there; copy it again."
            )

    def _frames(self, packets: Iterable[Any]) -> Iterator[Any]:
        # interleaved: PyAV looks for planes beyond the end of its list when there are more than eight
        to_float = av.AudioResampler(format="flt", rate=self.rate_hz)
        for packet in packets:
            for frame in packet.decode():
                yield from to_float.resample(frame)
        yield from to_float.resample(None)

    def _skip_packets(self, packets: Iterator[Any], wanted: int) -> tuple[int, Iterable[Any]]:
        """Pass over packets before the frame `wanted`; return where the next one ends, and the rest with it.

        Matroska rounds times to milliseconds and recorders leave gaps, so only counting tells where one is. The
        first half second is decoded, since only the decoder knows how much it drops there.
        """
        end = told = 0
        for packet in packets:
            n = _opus_samples(packet)
            if told < self.rate_hz // 2:
                end += sum(frame.samples for frame in packet.decode())
            else:
                end += n
                if end > wanted or n == 0:
                    return end, itertools.chain([packet], packets)
            told += n
        return end, ()

    def _rewind(self) -> None:
        """Go to the start: a container without an index cannot seek, so it is opened again."""
        if not self._is_fresh:
            self._container.close()
            self._open()
        self._is_fresh = False

    def _seek(self, target_s: float) -> int | None:
        """Go to at most `target_s`; return the frame position, or None where the next frame will tell it."""
        target = int((target_s + self._origin_s) / self._stream.time_base)
        try:
            self._container.seek(target, stream=self._stream)
        except av.error.FFmpegError:
            self._rewind()
            return 0
        return None

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"{self.name} is damaged or truncated ({error}).")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()
        self._file.close()
