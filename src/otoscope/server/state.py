"""What all routes share: the workspace, uploaded clips, and caches of what the model computed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from otoscope.audio import Clip, Corpus, log_mel
from otoscope.errors import InputError
from otoscope.server.caching import ByteCache
from otoscope.server.media import Bytes, Floats, quantise, wav_bytes
from otoscope.server.shapes import MatchView
from otoscope.server.tables import FeatureTable
from otoscope.server.views import feature_name, number

if TYPE_CHECKING:
    from otoscope.atlas import Atlas
    from otoscope.atlas.codes import FrameCode
    from otoscope.dictionaries import Dictionary
    from otoscope.models import Clock, SpeechModel, Transcript
    from otoscope.workspace import Workspace

MEBIBYTE = 2**20
MAX_UPLOAD_BYTES = 64 * MEBIBYTE
MAX_UPLOAD_S = 1800.0
MAX_UPLOADS = 200
MAX_UPLOADS_BYTES = 512 * MEBIBYTE
MODEL_CALLS = 2
UPLOADS = "uploads"
_SHOWN_MELS = 80
_FRAMES_AT_ONCE = 4096
_MATCHED_FRAMES = 20_000
"""Dictionaries wider than this are compared by when they fire alone, not by their directions."""


class NotFoundError(InputError):
    """Something addressed by an id does not exist; the server answers 404."""


@dataclass(frozen=True)
class Found:
    """A clip with the corpus it came from and the `version` that its content is cached under."""

    clip: Clip
    corpus: str
    version: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies the sound in caches."""
        return (self.corpus, self.version, self.clip.clip_id)


@dataclass(frozen=True)
class Mel:
    """The model's own log-mel of a clip as bytes [m, t]; 0…255 stands for `low`…`high`, one column per 10 ms."""

    values: Bytes
    low: float
    high: float
    step_s: float


class Uploads:
    """Recordings of the visitor, in memory only; the least recently used go first."""

    def __init__(self, max_clips: int = MAX_UPLOADS, max_bytes: int = MAX_UPLOADS_BYTES) -> None:
        self.max_clips, self.max_bytes = max_clips, max_bytes
        self._clips: OrderedDict[str, tuple[Clip, int]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, data: bytes, name: str) -> Clip:
        """Decode `data` and keep it; the same bytes get the same id.

        Raises:
            InputError: it is not audio, is empty, or is too long.
        """
        clip_id = f"upload-{hashlib.sha256(data).hexdigest()[:16]}"
        clip = Clip.from_bytes(data, clip_id=clip_id, name=name)
        if clip.duration_s > MAX_UPLOAD_S:
            raise InputError(
                f"The recording is {clip.duration_s:.0f} s long; at most {MAX_UPLOAD_S:.0f} s can be uploaded: "
                "make a corpus of it with `otoscope corpus` instead."
            )
        size = len(clip.samples()) * 4 + len(data)
        with self._lock:
            self._clips[clip_id] = (clip, size)
            self._clips.move_to_end(clip_id)
            while len(self._clips) > self.max_clips or (
                len(self._clips) > 1 and sum(size for _, size in self._clips.values()) > self.max_bytes
            ):
                self._clips.popitem(last=False)
        return clip

    def get(self, clip_id: str) -> Clip | None:
        """Return an uploaded clip, or None if it was never here or had to make room."""
        with self._lock:
            if clip_id not in self._clips:
                return None
            self._clips.move_to_end(clip_id)
            return self._clips[clip_id][0]

    def all(self) -> list[Clip]:
        """Return the uploaded clips, newest first."""
        with self._lock:
            return [clip for clip, _ in reversed(self._clips.values())]


class State:
    """Finds things by id and computes what a page shows of them; safe to call from many threads."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.uploads = Uploads()
        self.model_calls = threading.BoundedSemaphore(MODEL_CALLS)
        self._activations: ByteCache[Floats] = ByteCache(256 * MEBIBYTE, lambda a: int(a.nbytes))
        self._mels: ByteCache[Mel] = ByteCache(128 * MEBIBYTE, lambda mel: int(mel.values.nbytes))
        self._wavs: ByteCache[bytes] = ByteCache(128 * MEBIBYTE, len)
        self._codes: ByteCache[FrameCode] = ByteCache(128 * MEBIBYTE, lambda code: sum(part.nbytes for part in code))
        self._matches: ByteCache[MatchView | None] = ByteCache(10_000, lambda _: 1)
        self._transcripts: ByteCache[Transcript] = ByteCache(10_000, lambda _: 1)
        self._tables: ByteCache[FeatureTable] = ByteCache(32, lambda _: 1)

    def model(self) -> SpeechModel:
        """Return the model, loaded on first use."""
        return self.workspace.model()

    def corpus(self, name: str) -> Corpus:
        """Return a corpus of the workspace.

        Raises:
            NotFoundError: there is none of this name.
        """
        self._expect("corpora", name, "corpus")
        return self.workspace.corpus(name)

    def atlas(self, name: str) -> Atlas:
        """Return an atlas of the workspace.

        Raises:
            NotFoundError: there is none of this name.
        """
        self._expect("atlases", name, "atlas")
        return self.workspace.atlas(name)

    def _expect(self, kind: str, name: str, noun: str) -> None:
        names = self.workspace.names(kind)
        if name not in names:
            there = ", ".join(names) or f"none; `otoscope demo` makes some {kind}"
            raise NotFoundError(f"There is no {noun} {name!r} in this workspace (there is: {there}).")

    def feature(self, address: str) -> tuple[str, Atlas, Dictionary, int]:
        """Return atlas name, atlas, dictionary and index of `ATLAS:INDEX`.

        Raises:
            InputError: not of that form.
            NotFoundError: no such atlas, or the index is out of range.
        """
        match = re.fullmatch(r"(.+):(\d{1,9})", address)
        if match is None:
            raise InputError(f"{address!r} is not a feature; write ATLAS:INDEX, for example sae-2:30.")
        name, index = match[1], int(match[2])
        atlas = self.atlas(name)
        dictionary = self.workspace.dictionary_of(name)
        if index >= dictionary.n_features:
            raise NotFoundError(f"{name} has the features 0…{dictionary.n_features - 1}; there is no {index}.")
        return name, atlas, dictionary, index

    def table(self, atlases: Sequence[str]) -> FeatureTable:
        """Return the features of these atlases as one table, built once per version of the atlases."""
        opened = [self.atlas(name) for name in atlases]
        key = tuple((name, id(atlas)) for name, atlas in zip(atlases, opened, strict=True))
        return self._tables.get(key, lambda: FeatureTable(dict(zip(atlases, opened, strict=True)), self.workspace.told))

    def find(self, clip_id: str, corpus: str | None = None) -> Found:
        """Return the clip with this id.

        Raises:
            NotFoundError: no corpus has it, or an uploaded recording is no longer kept.
        """
        uploaded = self.uploads.get(clip_id)
        if uploaded is not None:
            return Found(uploaded, UPLOADS, clip_id)
        if corpus == UPLOADS or (corpus is None and clip_id.startswith("upload-")):
            raise NotFoundError(f"The recording {clip_id!r} is no longer kept here; upload it again.")
        names = self.workspace.names("corpora") if corpus is None else [corpus]
        for name in names:
            opened = self.corpus(name)
            with contextlib.suppress(InputError):
                return Found(opened.get(clip_id), name, opened.fingerprint[:16])
        raise NotFoundError(f"There is no clip {clip_id[:80]!r} in {', '.join(names) or 'this workspace'}.")

    def wav(self, found: Found, start_s: float, end_s: float | None) -> bytes:
        """Return a span of the clip, as the model hears it (16 kHz mono), as a WAV file."""

        def make() -> bytes:
            return wav_bytes(self.samples(found, start_s, end_s))

        return self._wavs.get((*found.key, start_s, end_s), make)

    def samples(self, found: Found, start_s: float = 0.0, end_s: float | None = None) -> Floats:
        """Return the 16-kHz samples [n] of a span of the clip."""
        samples = found.clip.samples()
        stop = len(samples) if end_s is None else min(len(samples), round(end_s * 16000))
        return samples[min(round(start_s * 16000), stop) : stop]

    def mel(self, found: Found) -> Mel:
        """Return the model's own input for the clip: its windows one after the other, without their padding.

        For models that hear samples, the spectrogram that Whisper would hear is shown.
        """

        def make() -> Mel:
            if not self.model().dims.n_mels:
                whole = log_mel(found.clip.samples(), _SHOWN_MELS).numpy()
            else:
                with self.model_calls:
                    windows = self.model().windows(found.clip)
                valid = [window.input[:, : 2 * window.n_frames].cpu().float().numpy() for window in windows]
                whole = np.concatenate(valid, axis=1)
            low, high = (float(whole.min()), float(whole.max())) if whole.size else (0.0, 1.0)
            return Mel(quantise(whole, low, high), low, high, 0.01)

        return self._mels.get(found.key, make)

    def activations(self, found: Found, site: str) -> Floats:
        """Return the activations [t, d] of a clip at a site, one row per 20 ms."""

        def make() -> Floats:
            with self.model_calls:
                run = self.model().run(found.clip, read=[site])
            values: Floats = run[site].numpy()
            return values

        return self._activations.get((*found.key, site), make)

    def _read_by(self, found: Found, dictionary: Dictionary) -> torch.Tensor:
        """Return what a dictionary reads of a clip, [t, d_in]: its sites side by side."""
        return torch.from_numpy(np.concatenate([self.activations(found, site) for site in dictionary.sites], axis=1))

    def clock(self, site: str) -> Clock:
        """Return which moment each frame of a site stands for."""
        model = self.model()
        return model.site(site).clock(model.dims)

    def lanes(self, found: Found, dictionary: Dictionary, features: Sequence[int]) -> Floats:
        """Return how strongly some features fire over a clip, [features, t]."""
        h = self._read_by(found, dictionary)
        with self.model_calls, torch.inference_mode():
            values: Floats = dictionary.feature_values(h, list(features)).float().numpy().T
        return values

    def code(self, found: Found, name: str) -> FrameCode:
        """Return the code of a whole clip in the dictionary of the atlas `name`."""
        dictionary = self.workspace.dictionary_of(name)

        def make() -> FrameCode:
            from otoscope.atlas.building.code_pass import frame_code
            from otoscope.atlas.codes import FrameCode

            h = self._read_by(found, dictionary)
            size = max(len(h), 1) if dictionary.context else _FRAMES_AT_ONCE
            with self.model_calls, torch.inference_mode():
                pieces = [frame_code(dictionary.encode(h[start : start + size])) for start in range(0, len(h), size)]
            return FrameCode.joined(pieces)

        return self._codes.get((*found.key, str(self.atlas(name).meta["dictionary"]["fingerprint"])), make)

    def matches(self, name: str, feature: int) -> list[MatchView]:
        """Return the most similar feature of each other atlas that has clips of this one, best first; kept."""
        from otoscope.atlas.search.matching import match_features

        atlas, dictionary = self.atlas(name), self.workspace.dictionary_of(name)

        def make(other: str) -> MatchView | None:
            there = self.atlas(other)
            partner_dictionary = self.workspace.dictionary_of(other)
            try:
                with self.model_calls:
                    found = match_features(
                        atlas, dictionary, there, partner_dictionary, features=[feature], max_frames=_MATCHED_FRAMES
                    )
            except InputError:
                return None
            [row] = found.rows()
            partner = int(row.pop("partner"))
            if partner < 0:
                return None
            return MatchView(
                feature=feature_name(there, other, partner),
                score=row["score"],
                correlation=row["correlation"],
                iou=row["iou"],
                cosine=number(row["cosine"]),
                mutual=row["mutual"],
            )

        views = []
        for other in self.workspace.names("atlases"):
            if other != name:
                key = (name, feature, other, str(atlas.meta["seal"]), str(self.atlas(other).meta["seal"]))
                views.append(self._matches.get(key, functools.partial(make, other)))
        return sorted((view for view in views if view is not None), key=lambda view: -view.score)

    def transcript(self, found: Found) -> Transcript:
        """Return what the model hears without any edit; kept."""

        def make() -> Transcript:
            with self.model_calls:
                return self.model().transcribe(found.clip)

        return self._transcripts.get(found.key, make)
