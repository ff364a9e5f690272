"""A corpus: an ordered, fingerprinted collection of clips."""

from __future__ import annotations

import dataclasses
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
from otoscope.audio.problems import OnError, Problem, Problems
from otoscope.audio.readers.tree import is_sound
from otoscope.errors import InputError, nearest
from otoscope.progress import ProgressReport

BUNDLED = ("mini",)
"""Corpora that come with the package, by name."""


class Corpus(Sequence[Clip]):
    """Clips in a fixed order, found by position or by id. Opening one reads no sound.

    Raises:
        InputError: no clips, or two clips with one id.
    """

    def __init__(
        self, name: str, clips: Iterable[Clip], problems: Iterable[Problem] = (), *, licence: str = ""
    ) -> None:
        self.name = name
        self.licence = licence
        """Who made the sound, and what it may be used for; empty where nobody says."""
        self.clips: tuple[Clip, ...] = tuple(clips)
        self.problems: tuple[Problem, ...] = tuple(problems)
        """What could not be used when the corpus was opened with `on_error="skip"`."""
        if not self.clips:
            raise InputError(f"Corpus {name!r} has no clips.")
        self._position = {clip.clip_id: i for i, clip in enumerate(self.clips)}
        if len(self._position) < len(self.clips):
            twice = next(clip.clip_id for i, clip in enumerate(self.clips) if self._position[clip.clip_id] != i)
            raise InputError(f"Corpus {name!r} has two clips with the id {twice!r}; ids must be unique.")

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        kind: str | None = None,
        split: str | None = None,
        labels: str | os.PathLike[str] | None = None,
        on_error: OnError = "raise",
        name: str | None = None,
    ) -> Corpus:
        """Return the corpus that lies at `path`, of whatever layout: no sound is opened.

        Args:
            path: a saved corpus, a manifest, or a folder: LibriSpeech, LibriTTS, Common Voice, AudioSet, ESC-50,
                ESC-10, Speech Commands, TIMIT, LJSpeech, CMU ARCTIC, FSDD, or any recordings.
            kind: the layout, where it should not be found by what is in the folder (`otoscope corpus kinds`).
            split: the part to read ("train-clean-100", "test", "validated"; the fold "1" of ESC-50); all by default.
            labels: a folder of label files (.TextGrid, .json…) found by the path, id or name of their clip, or a CTM.
            on_error: "raise" refuses a corpus of which something cannot be used (a missing recording, a bad row,
                overlapping intervals, another encoding) and says how much; "skip" goes on without it, see `problems`.
            name: the name of the corpus, by default that of the folder.

        Raises:
            InputError: nothing there, no such kind or split, no clips, or something cannot be used.
        """
        from otoscope.audio.readers.registry import open_clips

        opened = open_clips(
            Path(path), kind=kind, split=split, labels=None if labels is None else Path(labels), on_error=on_error
        )
        return cls(name or opened.name, opened.clips, opened.problems, licence=opened.licence)

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        name: str | None = None,
        *,
        labels: str | os.PathLike[str] | None = None,
        on_error: OnError = "raise",
    ) -> Corpus:
        """Return the recordings below a folder, in the order of their paths.

        The subfolder becomes `attributes["folder"]`; label files beside a recording (`clip.TextGrid`,
        `clip_annot.json`, `clip.PHN`…) become its tiers, and plain text (`clip.txt`) its text. `labels` and `on_error`
        as in `open`.
        Spoken digits named `{digit}_{speaker}_{take}` (FSDD) get their text, speaker and a word tier.

        Raises:
            InputError: not a folder, no recordings in it, or labels that cannot be used.
        """
        from otoscope.audio.readers.registry import is_digits

        if not Path(path).is_dir():
            raise InputError(f"{path} is not a folder of recordings.")
        kind = "fsdd" if is_digits(Path(path)) else "folder"
        return cls.open(path, kind=kind, labels=labels, on_error=on_error, name=name or Path(path).resolve().name)

    @classmethod
    def from_manifest(
        cls,
        path: str | os.PathLike[str],
        *,
        tiers: str | os.PathLike[str] | None = None,
        name: str | None = None,
        on_error: OnError = "raise",
    ) -> Corpus:
        """Return the clips listed in a .csv, .tsv, .jsonl or .parquet file, one row per clip.

        Columns: `path` (or `uri`, `file`, `audio`; relative to the manifest), and optionally `clip_id`,
        `start_s`, `end_s`, `text` (or `transcript`, `sentence`), `speaker`, `language`, `sound_class` (or `label`) and
        `tiers` (JSON: `{"words": [[start_s, end_s, label], …]}`); other columns become attributes. `tiers`
        names a second table with the columns `clip_id` or `path`, `tier`, `start_s`, `end_s`, `label`.

        Raises:
            InputError: missing, of another kind; or, unless `on_error` is "skip", a row that cannot be understood or
                whose recording is missing (with its line).
        """
        from otoscope.audio.readers.manifest import read_manifest

        path = Path(path)
        problems = Problems()
        clips = read_manifest(path, None, problems, None if tiers is None else Path(tiers))
        found = problems.settle(on_error)
        if not clips:
            raise InputError(f"{path} has no clip that can be used; the first fault: {found[0]}.")
        return cls(name or path.stem, clips, found)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        name: str | None = None,
        audio: str | None = None,
        text: str | None = None,
        speaker: str | None = None,
        on_error: OnError = "raise",
    ) -> Corpus:
        """Return the rows of a loaded Hugging Face data set (`datasets.Dataset`) as clips.

        Recordings are read when they are needed, not copied. `audio`, `text` and `speaker` name the columns where they
        are not called as usual; class labels become `sound_class`, other texts and numbers attributes.

        Raises:
            InputError: streamed, several splits at once, no audio column; or, unless `on_error` is "skip", a row whose
                recording is missing.
        """
        from otoscope.audio.readers.hub import read_dataset

        problems = Problems()
        clips = read_dataset(dataset, {"audio": audio, "text": text, "speaker": speaker}, problems)
        info = getattr(getattr(dataset, "info", None), "dataset_name", None)
        name = name or str(info or "dataset")
        return cls(name, clips, problems.settle(on_error))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Corpus:
        """Open a corpus written by `save`.

        Raises:
            OtoscopeError: missing, damaged, or of another format.
        """
        from otoscope.audio.readers.saved import load_corpus

        name, clips, licence = load_corpus(Path(folder))
        return cls(name, clips, licence=licence)

    def check(self, *, progress: bool | ProgressReport = False) -> tuple[Problem, ...]:
        """Decode every clip and return what cannot be decoded, and tiers that reach past the end of the sound.

        `corpus.select(lambda clip: clip.clip_id not in bad)` with `bad = {p.clip_id for p in corpus.check()}` leaves
        them out.
        """
        from otoscope.audio.checking import check_clips

        return check_clips(self, progress)

    def export_labels(self, folder: str | os.PathLike[str], kind: str = "TextGrid") -> list[Path]:
        """Write the tiers to a new folder, which appears when it is complete, and return the files.

        "TextGrid" and "JSON" are a file per clip, `{clip_id}.TextGrid`; "Audacity" a label track per clip and tier,
        `{clip_id}.words.txt`; "CTM" one file per tier for all clips, `words.ctm`. Times count from the clip's start.

        Raises:
            InputError: no tiers, an unknown kind, a folder that holds something, or a label the format cannot hold.
            OtoscopeError: the folder cannot be written.
        """
        from otoscope.audio.labels.exporting import export_labels

        return export_labels(self, Path(folder), kind)

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
            return Corpus(self.name, self.clips[key], licence=self.licence)
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
        return Corpus(self.name, chosen, licence=self.licence)

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
        known = tuple(clip.sha256 for clip in self.clips if clip.sha256 is not None)
        if len(known) == len(self.clips):
            return known
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
        if self.problems:
            facts.append(f"{len(self.problems):,} items left out")
        return f"Corpus({self.name!r}: {'; '.join(facts)})"


def _update(digest: Any, values: list[Any]) -> None:
    digest.update(json.dumps(values, ensure_ascii=True).encode() + b"\n")


def corpus(
    name_or_path: str | os.PathLike[str],
    *,
    kind: str | None = None,
    split: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    on_error: OnError = "raise",
) -> Corpus:
    """Open a corpus: "mini" (bundled), one recording, or what `Corpus.open` opens, recognised by what is in it.

    `kind`, `split`, `labels` and `on_error` are those of `Corpus.open`.

    Raises:
        InputError: there is nothing of that name, or something of it cannot be used.
    """
    if str(name_or_path) in BUNDLED and not Path(name_or_path).exists():
        name_or_path = Path(str(resources.files("otoscope"))) / "assets" / str(name_or_path)
    path = Path(name_or_path)
    if not path.exists():
        hint = nearest(str(name_or_path), BUNDLED)
        raise InputError(
            f"{str(name_or_path)!r} is neither a bundled corpus ({', '.join(BUNDLED)}) "
            f"nor an existing path{hint or '.'}"
        )
    if path.is_file() and kind is None and is_sound(path.name):
        clip = Clip.from_file(path)
        return Corpus(path.stem, [clip if labels is None else _labelled(clip, Path(labels), on_error)])
    return Corpus.open(path, kind=kind, split=split, labels=labels, on_error=on_error)


def _labelled(clip: Clip, labels: Path, on_error: OnError) -> Clip:
    from otoscope.audio.labels import read_labels

    if labels.is_dir():
        raise InputError(f"{labels} is a folder; one recording takes one file of labels.")
    return dataclasses.replace(clip, tiers=read_labels(labels, on_error=on_error))
