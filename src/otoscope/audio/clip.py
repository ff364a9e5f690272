"""A clip: a span of sound with an id, and what is known about it."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from otoscope.audio.decoding import SAMPLE_RATE_HZ, check_span, decode, probe, resample
from otoscope.audio.tiers import NO_TIERS, packed
from otoscope.audio.tiers import Interval as Interval
from otoscope.audio.tiers import Tiers as Tiers
from otoscope.errors import InputError
from otoscope.storage import sha256_file


class StoredRecording(Protocol):
    """A recording that lies inside something larger (a row of a data set), read when it is needed."""

    def read(self) -> bytes:
        """Return its bytes."""
        ...


class _Measured:
    """Room for the length that was read from the header of a source."""

    __slots__ = ("_length_s",)
    _length_s: float


@dataclass(frozen=True, repr=False, slots=True, weakref_slot=True)
class Clip(_Measured):
    """A span `[start_s, end_s)` of a source, with optional text, attributes and tiers; it reads
    nothing until asked.

    `uri` names the source for people; `end_s` None means to its end. Times of tiers count from the clip's
    start. `sha256` is the hash of the source's content, where it is known already.
    """

    clip_id: str
    uri: str
    start_s: float = 0.0
    end_s: float | None = None
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    tiers: Tiers = field(default_factory=lambda: NO_TIERS)
    sha256: str | None = field(default=None, compare=False)
    source: Path | bytes | np.ndarray | StoredRecording | None = field(default=None, compare=False)
    """Where the sound is: a file, the bytes of one, or 16 kHz mono samples; None: the file named by `uri`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tiers", packed(self.tiers))

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        clip_id: str | None = None,
        start_s: float = 0.0,
        end_s: float | None = None,
        text: str | None = None,
        speaker: str | None = None,
        language: str | None = None,
        tiers: Tiers | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Clip:
        """Return a clip of a recording after reading its header.

        Raises:
            InputError: missing, not audio, longer than the limit, or the span is outside the recording.
        """
        info = probe(path)
        check_span(str(path), info.duration_s, start_s, end_s)
        return cls(
            clip_id=clip_id or url_safe(Path(path).stem),
            uri=str(path),
            start_s=start_s,
            end_s=end_s,
            text=text,
            speaker=speaker,
            language=language,
            attributes=attributes or {},
            tiers=tiers or NO_TIERS,
            source=Path(path),
        )

    @classmethod
    def from_samples(
        cls,
        samples: np.ndarray,
        sample_rate_hz: float,
        *,
        clip_id: str = "clip",
        text: str | None = None,
        speaker: str | None = None,
        language: str | None = None,
        tiers: Tiers | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Clip:
        """Return a clip of samples in memory `[n]`, or `[n, channels]`, resampled to 16 kHz mono.

        Raises:
            InputError: empty, NaN or infinite samples, wrong shape or rate, or longer than the limit.
        """
        array = np.asarray(samples)
        if array.ndim not in (1, 2) or not array.size:
            raise InputError(f"Clip {clip_id!r} needs samples [n] or [n, channels], not shape {array.shape}.")
        if not sample_rate_hz > 0:
            raise InputError(f"Clip {clip_id!r} has a sample rate of {sample_rate_hz} Hz; give a positive one.")
        if np.issubdtype(array.dtype, np.integer):
            array = array / np.float32(np.iinfo(array.dtype).max + 1)
        array = np.asarray(array, dtype=np.float32)
        if not np.isfinite(array).all():
            raise InputError(f"Clip {clip_id!r} has NaN or infinite samples.")
        check_span(f"Clip {clip_id!r}", len(array) / sample_rate_hz, 0.0, None)
        mono = array.mean(axis=1) if array.ndim == 2 else array
        held = np.array(resample(mono, sample_rate_hz))
        held.flags.writeable = False
        return cls(
            clip_id=url_safe(clip_id),
            uri=f"memory:{url_safe(clip_id)}",
            text=text,
            speaker=speaker,
            language=language,
            attributes=attributes or {},
            tiers=tiers or NO_TIERS,
            sha256=hashlib.sha256(held.tobytes()).hexdigest(),
            source=held,
        )

    @classmethod
    def from_bytes(cls, data: bytes, *, clip_id: str | None = None, name: str = "upload") -> Clip:
        """Return a clip of a recording given as bytes (an upload) after reading its header.

        Raises:
            InputError: too large, not audio, or longer than the limit; errors call it `name`.
        """
        info = probe(data, name=name)
        check_span(name, info.duration_s, 0.0, None)
        digest = hashlib.sha256(data).hexdigest()
        return cls(clip_id=clip_id or f"upload-{digest[:12]}", uri=name, sha256=digest, source=data)

    def samples(self) -> np.ndarray:
        """Return the sound as float32 `[n]`, 16 kHz mono (read-only; recent clips are kept in memory).

        Raises:
            InputError: the source is missing or cannot be decoded.
        """
        if isinstance(self.source, np.ndarray):
            return self.source[self._span_in_samples()]
        return _RECENT.get(self)

    @property
    def duration_s(self) -> float:
        """Length in seconds, from the span or else from the header of the source."""
        if self.end_s is not None:
            return self.end_s - self.start_s
        try:
            return self._length_s
        except AttributeError:  # not asked for before
            object.__setattr__(self, "_length_s", self._measured())
            return self._length_s

    def _measured(self) -> float:
        """What is left of the source from the start, in seconds."""
        recording = self.recording
        if isinstance(recording, np.ndarray):
            return len(recording) / SAMPLE_RATE_HZ - self.start_s
        return probe(recording, name=self.uri).duration_s - self.start_s

    def tier(self, name: str) -> tuple[Interval, ...]:
        """Return the intervals of a tier ("words", "phones", "events"…); empty if there is none."""
        return self.tiers.get(name, ())

    @property
    def recording(self) -> Path | bytes | np.ndarray:
        """The source to decode: a file, the bytes of one, or samples."""
        if self.source is None:
            return Path(self.uri)
        return self.source if isinstance(self.source, Path | bytes | np.ndarray) else self.source.read()

    def decode(self) -> np.ndarray:
        """Return the sound as `samples` does, decoded anew from its source.

        Raises:
            InputError: the source is missing or cannot be decoded.
        """
        recording = self.recording
        if isinstance(recording, np.ndarray):
            return recording[self._span_in_samples()]
        samples = decode(recording, start_s=self.start_s, end_s=self.end_s, name=self.uri)
        samples.flags.writeable = False
        return samples

    def content_hash(self) -> str:
        """Return the SHA-256 of the source's content, read once if it is not known yet.

        Raises:
            InputError: the source is missing.
        """
        if self.sha256 is not None:
            return self.sha256
        recording = self.recording
        if isinstance(recording, np.ndarray):
            return hashlib.sha256(recording.tobytes()).hexdigest()
        if isinstance(recording, bytes):
            return hashlib.sha256(recording).hexdigest()
        try:
            return sha256_file(recording)
        except FileNotFoundError:
            raise InputError(f"{recording} does not exist.") from None
        except OSError as error:
            raise InputError(f"{recording} cannot be read: {error.strerror or error}.") from error

    def _span_in_samples(self) -> slice:
        end = None if self.end_s is None else round(self.end_s * SAMPLE_RATE_HZ)
        return slice(round(self.start_s * SAMPLE_RATE_HZ), end)

    def __hash__(self) -> int:
        return hash((self.clip_id, self.uri, self.start_s, self.end_s))

    def __repr__(self) -> str:
        span = "" if self.end_s is None else f", {self.start_s:g}–{self.end_s:g} s"
        text = "" if self.text is None else f", {self.text!r}"
        tiers = "".join(f", {len(intervals)} {name}" for name, intervals in self.tiers.items())
        return f"Clip({self.clip_id!r}{span}{text}{tiers})"


class _RecentSamples:
    """The samples of the clips decoded last, at most 64 MB, so that a page about one clip decodes it once."""

    LIMIT_BYTES = 64 * 2**20

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[object, ...], np.ndarray] = OrderedDict()
        self._n_bytes = 0

    def get(self, clip: Clip) -> np.ndarray:
        key = self._key(clip)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        samples = clip.decode()
        with self._lock:
            if key not in self._held and samples.nbytes <= self.LIMIT_BYTES // 4:
                self._held[key] = samples
                self._n_bytes += samples.nbytes
            while self._n_bytes > self.LIMIT_BYTES:
                self._n_bytes -= self._held.popitem(last=False)[1].nbytes
        return samples

    @staticmethod
    def _key(clip: Clip) -> tuple[object, ...]:
        if isinstance(clip.source, bytes):
            return (clip.content_hash(), clip.start_s, clip.end_s)
        if not isinstance(clip.source, Path | None):
            return (clip.source, clip.start_s, clip.end_s)
        recording = clip.source or Path(clip.uri)
        try:
            stat = recording.stat()
        except OSError:
            return (recording, clip.start_s, clip.end_s)
        return (recording, stat.st_mtime_ns, stat.st_size, clip.start_s, clip.end_s)


_RECENT = _RecentSamples()
_UNSAFE = re.compile(r"[^A-Za-z0-9._~-]+")


def url_safe(text: str) -> str:
    """Return `text` as an id that needs no escaping in a URL; what cannot be kept becomes `-`."""
    slug = _UNSAFE.sub("-", text).strip("-.")
    return slug or "clip-" + hashlib.sha256(text.encode()).hexdigest()[:8]


def unique_ids(names: Iterable[str]) -> list[str]:
    """Return a URL-safe id for each name; names that would share one get a piece of their hash."""
    names = list(names)
    slugs = [url_safe(name) for name in names]
    counts: dict[str, int] = {}
    for slug in slugs:
        counts[slug] = counts.get(slug, 0) + 1
    taken: set[str] = set()
    ids = []
    for name, slug in zip(names, slugs, strict=True):
        if counts[slug] > 1:
            slug = f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
        candidate, n = slug, 1
        while candidate in taken:
            n += 1
            candidate = f"{slug}-{n}"
        taken.add(candidate)
        ids.append(candidate)
    return ids
