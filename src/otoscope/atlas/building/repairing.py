"""Repairing atlases: what is damaged is made again from what is whole, and only that file is written.

Codes come from the postings and postings from the codes; where both are damaged, the clips are encoded again. Tables
come from the codes and the corpus, by the functions that built them. Nothing is put in place that is not, byte for
byte, what was there: the checksums are the judge.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from otoscope.activations import ActivationStore
from otoscope.atlas.building.code_pass import CodeWriter, frame_code
from otoscope.atlas.building.encoding import encoded
from otoscope.atlas.building.indexing import PostingsWriter
from otoscope.atlas.building.measures import MEASURES, frame_measures
from otoscope.atlas.building.sources import FrameStream, frame_stream
from otoscope.atlas.format import CLIPS, FORMAT, TOTALS, VERSION, codes_part, open_folder, postings_part
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary
from otoscope.errors import OtoscopeError
from otoscope.evaluation.naming.by_feature import Block
from otoscope.models import Clock, SpeechModel
from otoscope.progress import ProgressReport, track
from otoscope.storage import link_or_copy
from otoscope.storage.arrays import ArrayFile, DamagedError, Strings, write_arrays
from otoscope.storage.locks import only_one
from otoscope.storage.sealed import Damage, SealedFolder, restore_lists, seal

T = TypeVar("T")


@dataclass(frozen=True)
class Materials:
    """What an atlas was built from; `activations` opens the store or loads the model, and is called only if needed."""

    dictionary: Dictionary
    corpus: Corpus
    activations: Callable[[], ActivationStore | SpeechModel]


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged file: whether it is again what it was, and from what it was made, or why not."""

    file: str
    repaired: bool
    how: str


Find = Callable[[dict[str, Any]], Materials]


def find_damage(folder: Path, progress: bool | ProgressReport = False) -> list[Damage]:
    """Read every byte of an atlas and return what is not as it was built.

    Raises:
        OtoscopeError: there is no atlas, or it is of another version.
    """
    try:
        return _damage_of(open_folder(folder, lenient=True), progress)
    except DamagedError as error:  # without its lists, nothing can be said of the rest
        return [Damage(error.path.name, error.what)]


def contents(folder: Path, name: str) -> str:
    """Say what a file of an atlas holds, for people."""
    with contextlib.suppress(OtoscopeError, ValueError, IndexError):
        sealed = open_folder(folder, lenient=True)
        number = int(Path(name).stem) if "/" in name and Path(name).stem.isdigit() else -1
        if name.startswith("postings/"):
            part = sealed.meta["postings"]["parts"][number]
            return f"the frames of features {part['first']:,} to {part['last'] - 1:,}"
        if number >= 0:
            first, last = _clips_of(sealed.meta, number)
            ids = Strings(sealed.arrays(CLIPS), "clip_id")
            return f"clips {ids[first]!r} to {ids[last - 1]!r}"
    return ""


def repair_atlas(folder: Path, find: Find | None = None, progress: bool | ProgressReport = False) -> list[Outcome]:
    """Make the damaged files of an atlas again; return what became of each. Whole files are not touched.

    Args:
        folder: the atlas.
        find: given its `meta.json`, returns what it was built from; called only where the atlas itself does not
            suffice. It may raise OtoscopeError.
        progress: True for a bar, False for silence, or a function called as `report(stage, done, total)`.

    Raises:
        OtoscopeError: no atlas, of another version, being built, or its lists are beyond repair.
    """
    with only_one(folder.with_name(f".{folder.name}.lock"), f"repairing {folder}"):
        outcomes = [
            Outcome(name, True, "from its twin") for name in restore_lists(folder, format=FORMAT, version=VERSION)
        ]
        for left in folder.parent.glob(f".{folder.name}.repair.*"):  # of a repair that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.repair.") as scratch:
            outcomes += _Repair(folder, Path(scratch), find, progress).run()
    return outcomes


class _Repair:
    def __init__(self, folder: Path, scratch: Path, find: Find | None, progress: bool | ProgressReport) -> None:
        self.folder, self.scratch, self._find, self._progress = folder, scratch, find, progress
        self.sealed = open_folder(folder, lenient=True)
        self.meta = self.sealed.meta
        self._materials: Materials | None = None
        self._frames: FrameStream | None = None
        self._rebuilt: Path | None = None

    def run(self) -> list[Outcome]:
        """Repair in the order in which files depend on each other."""
        damaged = list(dict.fromkeys(damage.file for damage in _damage_of(self.sealed, self._progress)))
        by_turn = sorted(damaged, key=_turn)
        outcomes = []
        for name in by_turn:
            outcomes.append(self._one(name))
            self.sealed = open_folder(self.folder, lenient=True)
        return outcomes

    def _one(self, name: str) -> Outcome:
        if name not in self.sealed:
            return self._stray(name)
        failed = ""
        for how, make in self._ways(name):
            try:
                self.sealed.restore(name, make())
            except OtoscopeError as error:
                failed = self._reason(name, error)
                continue
            return Outcome(name, True, how)
        return Outcome(name, False, failed)

    def _reason(self, name: str, error: OtoscopeError) -> str:
        if not isinstance(error, DamagedError):
            return str(error)
        if error.path == self.folder / name or not error.path.is_relative_to(self.folder):
            return error.what
        return f"it would be made from {error.path.relative_to(self.folder).as_posix()}, which is damaged too"

    def _stray(self, name: str) -> Outcome:
        path = self.folder / name
        if path.name.startswith(".") and path.name.endswith(".part"):  # of a writer that was killed
            path.unlink(missing_ok=True)
            return Outcome(name, True, "removed: a writer that was killed left it")
        return Outcome(name, False, "it does not belong here; move it away")

    def _ways(self, name: str) -> Iterator[tuple[str, Callable[[], Path]]]:
        """How a file can be made, the cheapest first."""
        folder, _, stem = name.partition("/")
        if folder == "codes":
            number = int(Path(stem).stem)
            yield "from the postings", lambda: self._codes(number)
            yield "from the postings and the recordings", lambda: self._codes(number, measured=True)
            yield "by encoding its clips again", lambda: self._encoded(number)
        elif folder == "postings":
            yield "from the codes", lambda: self._postings(int(Path(stem).stem))
        elif folder == "tables":
            yield "from the arrays", lambda: self._tables() / name
        elif name == CLIPS:
            yield "from the corpus", self._clips
        elif name == TOTALS:
            yield "by encoding all clips again", lambda: self._built_anew() / name
        else:
            yield "from the codes and the corpus", lambda: self._merged() / name

    def _codes(self, number: int, *, measured: bool = False) -> Path:
        """Make a part of the codes from the postings; its measures are those that lie there, unless `measured` anew."""
        part = self.meta["codes"]["parts"][number]
        first, n_frames = int(part["first_frame"]), int(part["n_frames"])
        found = []
        for other, each in self._each(f"codes {number}", self.meta["postings"]["parts"], "parts"):
            file = self.sealed.arrays(postings_part(other))
            frames = file.read("frames")
            at = np.flatnonzero((frames >= first) & (frames < first + n_frames))
            features = int(each["first"]) + np.searchsorted(file.read("indptr"), at, side="right") - 1
            found.append((frames[at].astype(np.int64) - first, features.astype(np.uint32), file.read("values")[at]))
            file.release()
        frames, features, values = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(frames, kind="stable")
        arrays = {
            "indptr": _indptr(frames, n_frames),
            "features": features[order],
            "values": values[order],
            "measures": self._measures(number) if measured else np.zeros((n_frames, len(MEASURES)), np.float32),
        }
        path = self.scratch / "codes.safetensors"
        write_arrays(path, arrays)
        if not measured:
            _copy_span(self.folder / codes_part(number), path, ArrayFile(path).span("measures"))
        return path

    def _each(self, stage: str, items: Sequence[T], unit: str) -> Iterator[tuple[int, T]]:
        """Yield items with their numbers, and tell how far it is."""
        with track(stage, len(items), self._progress, unit=unit) as advance:
            for number, item in enumerate(items):
                yield number, item
                advance(1)

    def _postings(self, number: int) -> Path:
        """Make a part of the postings from the codes."""
        part = self.meta["postings"]["parts"][number]
        first, last = int(part["first"]), int(part["last"])
        found = []
        for other, each in self._each(f"postings {number}", self.meta["codes"]["parts"], "parts"):
            file = self.sealed.arrays(codes_part(other))
            features = file.read("features")
            at = np.flatnonzero((features >= first) & (features < last))
            frames = int(each["first_frame"]) + np.searchsorted(file.read("indptr"), at, side="right") - 1
            found.append((features[at].astype(np.int64) - first, frames, file.read("values")[at]))
            file.release()
        features, frames, values = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(features, kind="stable")
        starts = self.sealed.arrays(CLIPS).read("first_frame")
        writer = PostingsWriter(self._emptied("postings"), np.append(starts, int(self.meta["n_frames"])))
        writer.append(Block(first, _indptr(features, last - first), frames[order].astype(np.uint32), values[order]))
        writer.close()
        return writer.folder / postings_part(0)

    def _encoded(self, number: int) -> Path:
        """Encode the clips of a part of the codes again."""
        materials, stream = self._stream()
        dictionary = materials.dictionary
        floors = np.array(self.sealed.arrays(TOTALS).read("floors")) if dictionary.dense else None
        writer = CodeWriter(self._emptied("codes"), "repair", n_features=dictionary.n_features, dense=False)
        for _, position in self._each("encode", range(*_clips_of(self.meta, number)), "clips"):
            clip = materials.corpus[position]
            (frames,) = stream.frames(clip, [dictionary])
            writer.append(
                frame_code(encoded(dictionary, frames), floors), frame_measures(clip, stream.clock, len(frames))
            )
        writer.close()
        return writer.folder / codes_part(0)

    def _measures(self, number: int) -> npt.NDArray[np.float32]:
        """Measure the clips of a part again."""
        clock, corpus = Clock(self.meta["frame_s"], self.meta["first_frame_s"]), self._known().corpus
        counts = self.sealed.arrays(CLIPS).read("n_frames")
        clips = range(*_clips_of(self.meta, number))
        each = self._each("measure", clips, "clips")
        return np.concatenate([frame_measures(corpus[i], clock, int(counts[i])) for _, i in each])

    def _clips(self) -> Path:
        """Make the table of clips."""
        from otoscope.atlas.building.tables import write_clips
        from otoscope.evaluation.naming.label_sets import split_clips

        materials, stream = self._stream()
        clips = self._each("count frames", materials.corpus, "clips")
        clip_frames = [len(stream.frames(clip, [materials.dictionary])[0]) for _, clip in clips]
        half, _ = split_clips(materials.corpus, clip_frames, int(self.meta["seed"]))
        write_clips(self._emptied("clips"), materials.corpus, clip_frames, half)
        return self.scratch / "clips" / CLIPS

    def _tables(self) -> Path:
        """Make the Parquet tables from the arrays, once all of these are whole."""
        from otoscope.atlas.exports.parquet import write_tables

        folder = self._emptied("arrays")
        for name in self.meta["files"]:
            if "/" not in name:
                shutil.copyfile(self.sealed.path(name), folder / name)
        write_tables(folder)
        return folder

    def _merged(self) -> Path:
        """Make all tables again from the codes, which must be whole, and the corpus."""
        if self._rebuilt is None:
            from otoscope.atlas.building.merging import merge_atlases
            from otoscope.atlas.building.reuse import PART_FORMAT, PART_VERSION

            materials, part = self._known(), self._emptied("part")
            (part / "codes").mkdir()
            for name in self.meta["files"]:
                if name in (CLIPS, TOTALS) or name.startswith("codes/"):
                    link_or_copy(self.sealed.path(name), part / name)
            facts = {key: value for key, value in self.meta.items() if key not in _SEALED}
            seal(part, facts, format=PART_FORMAT, version=PART_VERSION)
            merge_atlases(
                [part], materials.dictionary, materials.corpus, self._emptied("built") / "atlas",
                name=self.meta["name"], seed=int(self.meta["seed"]), n_shifts=int(self.meta["n_shifts"]),
                progress=self._progress,
            )  # fmt: skip
            self._rebuilt = self.scratch / "built" / "atlas"
        return self._rebuilt

    def _built_anew(self) -> Path:
        """Build the whole atlas again, for what only the activations can tell."""
        if self._rebuilt is None:
            from otoscope.atlas.building.atlases import build_atlas

            materials, _ = self._stream()
            build_atlas(
                materials.activations(), materials.dictionary, materials.corpus, self._emptied("built") / "atlas",
                name=self.meta["name"], seed=int(self.meta["seed"]), n_shifts=int(self.meta["n_shifts"]),
                progress=self._progress,
            )  # fmt: skip
            self._rebuilt = self.scratch / "built" / "atlas"
        return self._rebuilt

    def _known(self) -> Materials:
        """Return what the atlas was built from.

        Raises:
            OtoscopeError: it is not at hand, or has changed since.
        """
        if self._materials is None:
            if self._find is None:
                raise OtoscopeError("The atlas alone does not suffice: give what it was built from.")
            found = self._find(self.meta)
            for what, now in (("dictionary", found.dictionary), ("corpus", found.corpus)):
                if now.fingerprint != self.meta[what]["fingerprint"]:
                    raise OtoscopeError(f"The {what} {now.name!r} changed since atlas {self.meta['name']!r} was built.")
            self._materials = found
        return self._materials

    def _stream(self) -> tuple[Materials, FrameStream]:
        """Return what the atlas was built from, and its activations."""
        materials = self._known()
        if self._frames is None:
            found = frame_stream(materials.activations(), [materials.dictionary], materials.corpus)
            if found.fingerprint != self.meta["source"]:
                raise OtoscopeError(
                    f"Atlas {self.meta['name']!r} was built from other activations than are at hand "
                    f"({self.meta['source']}); harvest them again."
                )
            self._frames = found
        return materials, self._frames

    def _emptied(self, name: str) -> Path:
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


_MEGABYTE = 10**6
_SEALED = ("format", "version", "checks", "files", "seal")


def _damage_of(sealed: SealedFolder, progress: bool | ProgressReport) -> list[Damage]:
    """Read every byte of a sealed folder; the bar counts megabytes, a file at a time."""
    sizes = {name: int(entry["bytes"]) for name, entry in sealed.meta["files"].items()}
    done = read = 0
    with track(f"check {sealed.folder.name}", sum(sizes.values()) // _MEGABYTE, progress, unit="MB") as advance:

        def told(name: str) -> None:
            nonlocal done, read
            advance(read // _MEGABYTE - done, name)
            done = read // _MEGABYTE
            read += sizes[name]

        found = sealed.damage(told)
        advance(read // _MEGABYTE - done)
    return found


def _turn(name: str) -> tuple[int, str]:
    """When a file is repaired: after those it is made from."""
    first = (CLIPS, TOTALS, "codes/", "postings/")
    turn = next((i for i, start in enumerate(first) if name.startswith(start)), len(first))
    return len(first) + 1 if name.startswith("tables/") else turn, name


def _clips_of(meta: dict[str, Any], number: int) -> tuple[int, int]:
    """First clip of a part of the codes, and the one after its last."""
    counts = [int(part["n_clips"]) for part in meta["codes"]["parts"]]
    return sum(counts[:number]), sum(counts[: number + 1])


def _indptr(rows: npt.NDArray[np.int64], n_rows: int) -> npt.NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=n_rows)))).astype(np.int64)


def _copy_span(source: Path, to: Path, span: tuple[int, int]) -> None:
    """Copy some bytes of a file, which may be missing or too short, to the same place in another."""
    if source.is_file():
        with open(source, "rb") as old, open(to, "r+b") as new:
            old.seek(span[0])
            new.seek(span[0])
            new.write(old.read(span[1] - span[0]))
