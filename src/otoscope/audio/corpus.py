"""A corpus: an ordered, fingerprinted collection of clips."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any, overload

from otoscope.audio.clip import Clip
from otoscope.errors import InputError, nearest

BUNDLED = ("mini",)
"""Corpora that come with the package, by name."""


class Corpus(Sequence[Clip]):
    """Clips in a fixed order, found by position or by id. Opening one reads no sound.

    Raises:
        InputError: no clips, or two clips with one id.
    """

    def __init__(self, name: str, clips: Iterable[Clip]) -> None:
        self.name = name
        self.clips: tuple[Clip, ...] = tuple(clips)
        if not self.clips:
            raise InputError(f"Corpus {name!r} has no clips.")
        self._position = {clip.clip_id: i for i, clip in enumerate(self.clips)}
        if len(self._position) < len(self.clips):
            twice = next(clip.clip_id for i, clip in enumerate(self.clips) if self._position[clip.clip_id] != i)
            raise InputError(f"Corpus {name!r} has two clips with the id {twice!r}; ids must be unique.")

    @classmethod
    def from_folder(cls, path: str | os.PathLike[str], name: str | None = None) -> Corpus:
        """Return the recordings below a folder, in the order of their paths.

        The subfolder becomes `attributes["folder"]`. Spoken digits named `{digit}_{speaker}_{take}` (FSDD)
        get their text, speaker and a word tier.

        Raises:
            InputError: not a folder, or no recordings in it.
        """
        from otoscope.audio.readers.folder import read_folder

        path = Path(path)
        return cls(name or path.resolve().name, read_folder(path))

    @classmethod
    def from_manifest(
        cls,
        path: str | os.PathLike[str],
        *,
        tiers: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> Corpus:
        """Return the clips listed in a .csv, .tsv, .jsonl or .parquet file, one row per clip.

        Columns: `path` (or `uri`, `file`, `audio`; relative to the manifest), and optionally `clip_id`,
        `start_s`, `end_s`, `text` (or `transcript`), `speaker`, `language`, `sound_class` (or `label`) and
        `tiers` (JSON: `{"words": [[start_s, end_s, label], …]}`); other columns become attributes. `tiers`
        names a second table with the columns `clip_id` or `path`, `tier`, `start_s`, `end_s`, `label`.

        Raises:
            InputError: missing, of another kind, or a row that cannot be understood (with its line).
        """
        from otoscope.audio.readers.manifest import read_manifest

        path = Path(path)
        return cls(name or path.stem, read_manifest(path, None if tiers is None else Path(tiers)))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Corpus:
        """Open a corpus written by `save`.

        Raises:
            OtoscopeError: missing, damaged, or of another format.
        """
        from otoscope.audio.readers.saved import load_corpus

        return cls(*load_corpus(Path(folder)))

    def save(self, folder: str | os.PathLike[str]) -> Corpus:
        """Write the corpus to a folder and return it as it will be loaded.

        Recordings stay where they are (their content is hashed); clips held in memory are written beside the
        tables.

        Raises:
            InputError: a recording is missing, or the folder exists and is not a saved corpus.
            OtoscopeError: the folder cannot be written.
        """
        from otoscope.audio.readers.saved import save_corpus

        save_corpus(self, Path(folder))
        return Corpus.load(folder)

    @overload
    def __getitem__(self, key: int | str) -> Clip: ...
    @overload
    def __getitem__(self, key: slice) -> Corpus: ...
    def __getitem__(self, key: int | str | slice) -> Clip | Corpus:
        if isinstance(key, slice):
            return Corpus(self.name, self.clips[key])
        if isinstance(key, str):
            return self.get(key)
        try:
            return self.clips[key]
        except IndexError:
            raise IndexError(f"Corpus {self.name!r} has {len(self)} clips; there is no clip {key}.") from None

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def __contains__(self, value: object) -> bool:
        return value in self._position if isinstance(value, str) else value in self.clips

    def get(self, clip_id: str) -> Clip:
        """Return the clip of an id.

        Raises:
            InputError: there is none; names the nearest ids.
        """
        if clip_id not in self._position:
            raise InputError(f"Corpus {self.name!r} has no clip {clip_id!r}{nearest(clip_id, self._position) or '.'}")
        return self.clips[self._position[clip_id]]

    def position(self, clip_id: str) -> int:
        """Return where in the order a clip is."""
        self.get(clip_id)
        return self._position[clip_id]

    def select(self, keep: Callable[[Clip], bool] | Iterable[str]) -> Corpus:
        """Return the clips for which `keep` is true, or those of the given ids, in the order of this corpus.

        Raises:
            InputError: an id is unknown, or nothing is left.
        """
        if callable(keep):
            chosen = [clip for clip in self.clips if keep(clip)]
        else:
            ids = {self.get(clip_id).clip_id for clip_id in keep}
            chosen = [clip for clip in self.clips if clip.clip_id in ids]
        if not chosen:
            raise InputError(f"No clip of corpus {self.name!r} is left by this selection.")
        return Corpus(self.name, chosen)

    @functools.cached_property
    def speakers(self) -> list[str]:
        """The speakers, sorted."""
        return sorted({clip.speaker for clip in self.clips if clip.speaker is not None})

    @functools.cached_property
    def tier_names(self) -> list[str]:
        """The names of all tiers, sorted."""
        return sorted({tier for clip in self.clips for tier in clip.tiers})

    @functools.cached_property
    def duration_s(self) -> float:
        """Seconds of sound; reads the headers of clips whose end is not given."""
        with ThreadPoolExecutor(4) as pool:
            return float(sum(pool.map(lambda clip: clip.duration_s, self.clips)))

    @property
    def has_labels(self) -> bool:
        """Whether any clip has a tier or a sound class."""
        return any(clip.tiers or "sound_class" in clip.attributes for clip in self.clips)

    @functools.cached_property
    def audio_fingerprint(self) -> str:
        """SHA-256 over the ids, spans and sound of the clips, in order: what activations depend on.

        The content of each recording is hashed on first use (about 1 GB/s); a saved corpus knows the hashes.
        """
        digest = hashlib.sha256(b"otoscope-corpus-audio 1")
        for clip, sha256 in zip(self.clips, self.content_hashes, strict=True):
            _update(digest, [clip.clip_id, clip.start_s, clip.end_s, sha256])
        return digest.hexdigest()

    @functools.cached_property
    def content_hashes(self) -> tuple[str, ...]:
        """SHA-256 of each clip's source, in order; a source of several clips is read once.

        Raises:
            InputError: a recording is missing.
        """
        keys = [str(clip.source) if isinstance(clip.source, Path) else id(clip.source) for clip in self.clips]
        sources = dict(zip(keys, self.clips, strict=True))
        with ThreadPoolExecutor(4) as pool:
            hashes = dict(zip(sources, pool.map(Clip.content_hash, sources.values()), strict=True))
        return tuple(hashes[key] for key in keys)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the sound and all that is said about it: texts, speakers, attributes, tiers."""
        digest = hashlib.sha256(self.audio_fingerprint.encode())
        for clip in self.clips:
            tiers = {name: [[i.start_s, i.end_s, i.label] for i in tier] for name, tier in sorted(clip.tiers.items())}
            _update(
                digest,
                [
                    clip.text,
                    clip.speaker,
                    clip.language,
                    sorted(clip.attributes.items()),
                    sorted(tiers.items()),
                ],
            )
        return digest.hexdigest()

    def __repr__(self) -> str:
        facts = [f"{len(self):,} clips"]
        if self.speakers:
            facts.append(f"{len(self.speakers)} speakers")
        if self.tier_names:
            facts.append("tiers " + ", ".join(self.tier_names))
        return f"Corpus({self.name!r}: {'; '.join(facts)})"


def _update(digest: Any, values: list[Any]) -> None:
    digest.update(json.dumps(values, ensure_ascii=True).encode() + b"\n")


def corpus(name_or_path: str | os.PathLike[str]) -> Corpus:
    """Open a corpus: "mini" (bundled), a saved corpus, a folder of recordings, a manifest, or one recording.

    Raises:
        InputError: there is nothing of that name.
    """
    from otoscope.audio.readers.manifest import KINDS

    if str(name_or_path) in BUNDLED and not Path(name_or_path).exists():
        return Corpus.load(Path(str(resources.files("otoscope"))) / "assets" / str(name_or_path))
    path = Path(name_or_path)
    if not path.exists():
        hint = nearest(str(name_or_path), BUNDLED)
        raise InputError(
            f"{str(name_or_path)!r} is neither a bundled corpus ({', '.join(BUNDLED)}) "
            f"nor an existing path{hint or '.'}"
        )
    if path.is_file():
        if path.suffix.lower() in KINDS:
            return Corpus.from_manifest(path)
        return Corpus(path.stem, [Clip.from_file(path)])
    if (path / "meta.json").is_file() and (path / "corpus.parquet").is_file():
        return Corpus.load(path)
    for kind in KINDS:
        if (path / f"manifest{kind}").is_file():
            return Corpus.from_manifest(path / f"manifest{kind}", name=path.resolve().name)
    return Corpus.from_folder(path)
