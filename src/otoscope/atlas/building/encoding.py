"""From clips to codes on disk, for any number of dictionaries at once: floors first, then one pass."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from otoscope.activations.filling import decoded_ahead
from otoscope.atlas.building.code_pass import CodeWriter, frame_code, plain_code, sides_code
from otoscope.atlas.building.floors import PILOT_FRAMES, FloorFinder, pilot_clips, pilot_name
from otoscope.atlas.building.measures import frame_measures
from otoscope.atlas.building.reuse import Donor, Donors
from otoscope.atlas.building.sources import FrameStream
from otoscope.atlas.building.tables import clip_fingerprints
from otoscope.atlas.building.totals import Totals
from otoscope.atlas.codes import FrameCode
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary, Neurons
from otoscope.dictionaries.sparse_code import SparseCode
from otoscope.progress import ProgressReport, track
from otoscope.storage import atomic_path
from otoscope.storage.arrays import ArrayFile, DamagedError, write_arrays


@dataclass
class Encoding:
    """The codes of one dictionary in the making.

    Attributes:
        dictionary: what encodes.
        writer: where the codes go.
        donors: clips that need not be encoded.
        floors: of a dense dictionary, from which value on its features are kept, `[n]`; `pilot` is the name of the
            clips that decided them.
    """

    dictionary: Dictionary
    writer: CodeWriter
    donors: Donors
    floors: npt.NDArray[np.float32] | None = None
    pilot: str = ""

    def totals(self) -> Totals | None:
        """What was counted of all clips, once all are there; None for sparse dictionaries."""
        if self.writer.totals is None:
            return None
        found = Totals.of_none(self.dictionary.n_features)
        found.add(self.writer.totals)
        self.donors.add_totals(found)
        return found


def encode(
    stream: FrameStream | None,
    encodings: Sequence[Encoding],
    clips: Corpus,
    whole: Corpus,
    progress: bool | ProgressReport,
) -> None:
    """Bring the codes of `clips`, part of the corpus `whole`, to disk, each clip's by itself.

    What is there already is neither read nor computed again. Without a stream all codes must be taken from donors.
    """
    kept = encodings[0].writer.folder / "pilot"
    pilot, stream = (None, None) if stream is None else stream.twice(kept)
    _find_floors(pilot, encodings, whole, progress)
    plan = _Plan(encodings, clips)
    with (
        track("encode", len(clips), progress, unit="clips", done=plan.first) as advance,
        contextlib.closing(decoded_ahead(clips[i] for i in plan.to_read)) as decoded,
    ):
        for position in range(plan.first, len(clips)):
            if position in plan.to_read:
                assert stream is not None
                clip = next(decoded)
                frames = stream.frames(clip, [each.dictionary for each in encodings])
                measures = frame_measures(clip, stream.clock, len(frames[0]))
            for number, each in enumerate(encodings):
                if each.writer.n_clips > position:
                    continue
                taken = plan.taken[number].get(position)
                if taken is None:
                    each.writer.append(_kept(each, frames[number]), measures)
                else:
                    each.writer.append(*taken[0].read(taken[1]))
            advance(1)
    for each in encodings:
        each.writer.close()
    shutil.rmtree(kept, ignore_errors=True)


@dataclass
class _Plan:
    """Which clips each encoding still needs, and where their codes are taken from."""

    encodings: Sequence[Encoding]
    clips: Corpus
    taken: list[dict[int, tuple[Donor, int]]] = field(init=False)
    to_read: dict[int, None] = field(init=False)

    def __post_init__(self) -> None:
        self.first = min(each.writer.n_clips for each in self.encodings)
        self.taken = []
        for each in self.encodings:
            found = ((position, each.donors.take(position)) for position in range(len(self.clips)))
            self.taken.append({position: place for position, place in found if place is not None})
        self.to_read = dict.fromkeys(
            position
            for position in range(self.first, len(self.clips))
            if any(
                position >= each.writer.n_clips and position not in taken
                for each, taken in zip(self.encodings, self.taken, strict=True)
            )
        )


def _kept(each: Encoding, frames: npt.NDArray[np.float32]) -> FrameCode:
    """Return what is kept of the frames `[t, d_in]` of one clip, and count the rest."""
    if isinstance(each.dictionary, Neurons) and each.floors is not None:
        return sides_code(frames, each.floors, each.writer.totals)
    return frame_code(encoded(each.dictionary, frames), each.floors, each.writer.totals)


def encoded(dictionary: Dictionary, frames: npt.NDArray[np.float32]) -> SparseCode:
    """Return the code of the frames `[t, d_in]` of one clip."""
    with torch.inference_mode():
        return dictionary.encode(torch.from_numpy(frames))


def _find_floors(
    stream: FrameStream | None, encodings: Sequence[Encoding], whole: Corpus, progress: bool | ProgressReport
) -> None:
    """Give dense dictionaries their floors: those of their donors, of an earlier run, or found by a pilot."""
    waiting = []
    for each in encodings:
        if not each.dictionary.dense:
            continue
        if each.donors.donors:
            first = each.donors.donors[0]
            each.floors, each.pilot = first.floors(), first.meta["floors"]["pilot"]
        elif not _load_floors(each, whole):
            waiting.append(each)
    if not waiting:
        return
    assert stream is not None
    finders = [FloorFinder(each.dictionary.n_features) for each in waiting]
    positions = []
    for position, found in _pilot(stream, [each.dictionary for each in waiting], whole, progress):
        positions.append(position)
        for each, finder, frames in zip(waiting, finders, found, strict=True):
            if isinstance(each.dictionary, Neurons):
                finder.add_sides(frames)
            else:
                finder.add(*plain_code(encoded(each.dictionary, frames)))
    for each, finder in zip(waiting, finders, strict=True):
        with atomic_path(_floors_path(each)) as temporary:
            write_arrays(temporary, {"floors": finder.floors(), "pilot": np.array(positions, dtype=np.int64)})
        _load_floors(each, whole)


def _pilot(
    stream: FrameStream, dictionaries: Sequence[Dictionary], whole: Corpus, progress: bool | ProgressReport
) -> Iterator[tuple[int, list[npt.NDArray[np.float32]]]]:
    """Yield the positions of the pilot's clips, and what each dictionary reads of them."""
    counts: dict[int, int] = {}
    with track("find floors", PILOT_FRAMES, progress, unit="frames") as advance:
        for position in pilot_clips(whole, counts.__getitem__):
            clip = whole[position]
            if stream.costly:  # not by `Clip.samples`, which would keep them for later
                clip = dataclasses.replace(clip, source=clip.decode(), start_s=0.0, end_s=None)
            frames = stream.frames(clip, dictionaries)
            counts[position] = len(frames[0])
            yield position, frames
            advance(len(frames[0]))


def _load_floors(each: Encoding, whole: Corpus) -> bool:
    path = _floors_path(each)
    if not path.is_file():
        return False
    try:
        file = ArrayFile(path)
        each.floors = np.array(file.read("floors"))
        fingerprints = clip_fingerprints(whole)
        each.pilot = pilot_name(f"{whole[i].clip_id} {fingerprints[i]}" for i in file.read("pilot").tolist())
    except DamagedError:
        return False
    return True


def _floors_path(each: Encoding) -> Path:
    return each.writer.folder / "floors.safetensors"
