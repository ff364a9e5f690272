"""Codes that exist already: of an atlas of fewer clips, or of parts that several machines made."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas import format as atlas_format
from otoscope.atlas.building.floors import PILOT_FRAMES, pilot_name, pilot_order
from otoscope.atlas.building.tables import clip_fingerprints
from otoscope.atlas.building.totals import Totals
from otoscope.atlas.codes import Codes, FrameCode
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError, OtoscopeError
from otoscope.storage.arrays import Strings
from otoscope.storage.sealed import META, SealedFolder

PART_FORMAT, PART_VERSION = "otoscope-atlas-part", 1
"""A sealed folder with `clips`, `codes` and, of dense dictionaries, `totals` as in an atlas, and nothing else."""
_RELEASE_EVERY = 64  # clips, after which the memory of what was read is given back


class Donor:
    """A finished atlas or part, whose clips' codes can be taken.

    Raises:
        OtoscopeError: neither an atlas nor a part, or damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        folder = Path(folder)
        self.sealed = _opened(folder)
        self.folder, self.meta = folder, self.sealed.meta
        clips = self.sealed.arrays(atlas_format.CLIPS)
        names = zip(Strings(clips, "clip_id").all(), Strings(clips, "fingerprint").all(), strict=True)
        self.clips = [f"{clip_id} {fingerprint}" for clip_id, fingerprint in names]
        self.first_frame: npt.NDArray[np.int64] = clips.read("first_frame")
        self.n_frames: npt.NDArray[np.int64] = clips.read("n_frames")
        self._codes = Codes(self.sealed)
        self._n_read = 0

    def read(self, clip: int) -> tuple[FrameCode, npt.NDArray[np.float32]]:
        """Return a copy of the code and the measures of a clip."""
        start = int(self.first_frame[clip])
        stop = start + int(self.n_frames[clip])
        found = self._codes[start:stop]
        code = FrameCode(np.array(found.indptr), np.array(found.features), np.array(found.values))
        measures = np.array(self._codes.measures(start, stop))
        self._n_read += 1
        if self._n_read % _RELEASE_EVERY == 0:
            self.sealed.release()
        return code, measures

    def floors(self) -> npt.NDArray[np.float32]:
        """Return from which value on its features were kept, `[n]`."""
        return np.array(self.sealed.arrays(atlas_format.TOTALS).read("floors"))

    def totals(self) -> Totals:
        """Return what was counted of all its clips."""
        return Totals.load(self.sealed.arrays(atlas_format.TOTALS))


class Donors:
    """Codes of some clips of a corpus, for one dictionary.

    Codes of sparse dictionaries are taken clip by clip. Dense ones are taken whole or not at all: counts of what lies
    under the floors exist only for all clips of a donor together.
    """

    def __init__(self, donors: Sequence[Donor], dictionary: Dictionary, corpus: Corpus) -> None:
        self.donors = list(donors)
        self.dense = dictionary.dense
        self._wanted: list[str] = []
        if self.donors:
            names = zip(corpus, clip_fingerprints(corpus), strict=True)
            self._wanted = [f"{clip.clip_id} {fingerprint}" for clip, fingerprint in names]
        self._where = {name: (donor, at) for donor in self.donors for at, name in enumerate(donor.clips)}

    @property
    def names(self) -> list[str]:
        """What changes with what is taken: the seals of donors that are taken whole."""
        return [donor.meta["seal"] for donor in self.donors] if self.dense else []

    def take(self, position: int) -> tuple[Donor, int] | None:
        """Return where the code of a clip of the corpus is; None where it must be made."""
        return self._where.get(self._wanted[position]) if self.donors else None

    def missing(self) -> list[int]:
        """Positions of the clips whose code must be made."""
        return [position for position, name in enumerate(self._wanted) if name not in self._where]

    def add_totals(self, totals: Totals) -> None:
        """Add what was counted of the donors' clips."""
        for donor in self.donors:
            totals.add(donor.totals())

    def problem(self, corpus: Corpus) -> str:
        """Say why codes of a dense dictionary cannot be taken for this corpus ("" if they can)."""
        if not self.dense or not self.donors:
            return ""
        surplus = Counter(name for donor in self.donors for name in donor.clips) - Counter(self._wanted)
        if surplus:
            return f"{sum(surplus.values())} of their clips are not in corpus {corpus.name!r}, or are in two of them"
        positions, n_frames = [], 0
        for position in pilot_order(corpus):
            if n_frames >= PILOT_FRAMES:
                break
            place = self.take(position)
            if place is None:
                return "a clip that decides the floors of the features is new"
            positions.append(position)
            n_frames += int(place[0].n_frames[place[1]])
        pilots = {donor.meta["floors"]["pilot"] for donor in self.donors}
        if pilots != {pilot_name(self._wanted[position] for position in positions)}:
            return "the floors of their features were set by other clips"
        return ""


def fitting(folder: Path, source: str, dictionary: Dictionary, corpus: Corpus) -> Donors:
    """Return the codes that an atlas at `folder` has for this corpus; none where it is
    of something else or damaged."""
    nothing = Donors((), dictionary, corpus)
    try:
        donor = Donor(folder)
        if _difference(donor, source, dictionary):
            return nothing
        for name in donor.meta["files"]:
            if name.startswith("codes/"):
                donor.sealed.path(name)
    except OtoscopeError:
        return nothing
    found = Donors([donor], dictionary, corpus)
    return nothing if found.problem(corpus) else found


def all_of(folders: Sequence[str | os.PathLike[str]], dictionary: Dictionary, corpus: Corpus) -> Donors:
    """Return the codes of atlases or parts that together hold every clip of a corpus.

    Raises:
        InputError: none, of different models or dictionaries, or clips are missing.
        OtoscopeError: neither atlases nor parts, or damaged.
    """
    donors = [Donor(folder) for folder in folders]
    if not donors:
        raise InputError("Name the atlases or parts to merge.")
    for donor in donors:
        if what := _difference(donor, donors[0].meta["source"], dictionary):
            raise InputError(f"{donor.folder} cannot be merged with the others: it was made with another {what}.")
    found = Donors(donors, dictionary, corpus)
    if missing := found.missing():
        raise InputError(
            f"Together they lack {len(missing)} of the {len(corpus)} clips of corpus {corpus.name!r} "
            f"(first: {corpus[missing[0]].clip_id!r}); build the part that has them, or choose their corpus."
        )
    if problem := found.problem(corpus):
        raise InputError(
            f"The codes of {dictionary.name!r} cannot be merged: {problem}. Dense dictionaries are built in parts of "
            "one corpus (`otoscope atlas --part 1/4`) and merged over the same."
        )
    return found


def part_facts(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the `meta.json` of an atlas or a part: its model, dictionary, corpus and source.

    Raises:
        OtoscopeError: neither an atlas nor a part, or damaged.
    """
    return Donor(folder).meta


def _difference(donor: Donor, source: str, dictionary: Dictionary) -> str:
    if donor.meta.get("dictionary", {}).get("fingerprint") != dictionary.fingerprint:
        return "dictionary"
    return "" if donor.meta.get("source") == source else "model or kind of source"


def _opened(folder: Path) -> SealedFolder:
    """Open a part or an atlas, by what its `meta.json` begins with."""
    try:
        with open(folder / META, "rb") as file:
            is_part = f'"{PART_FORMAT}"'.encode() in file.readline() + file.readline()
    except OSError:  # what is wrong is said by whoever opens it
        is_part = False
    if is_part:
        return SealedFolder(folder, format=PART_FORMAT, version=PART_VERSION)
    return atlas_format.open_folder(folder)
