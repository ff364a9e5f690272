"""The one pass over the clips: every clip's code is written once, in parts cut the same way whoever makes them.

A part is closed with the clip that fills it (`format.PART_FRAMES`, `PART_ENTRIES`), so parts depend on the clips alone:
not on where a pass was interrupted, nor on which machine encoded which clip.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import xxhash

from otoscope.atlas.building.compaction import sides_above
from otoscope.atlas.building.measures import MEASURES
from otoscope.atlas.building.totals import Totals
from otoscope.atlas.codes import FrameCode
from otoscope.atlas.format import PART_ENTRIES, PART_FRAMES, codes_part
from otoscope.dictionaries import SparseCode
from otoscope.errors import OtoscopeError
from otoscope.storage import atomic_path, plain_os_errors
from otoscope.storage.arrays import ArrayFile, DamagedError, Growing, block_checks, write_arrays

FORMAT, VERSION = "otoscope-atlas-pass", 2
JOURNAL = "journal.jsonl"
MAX_FRAMES = 2**32
FEW = 128
"""Up to so many entries of a frame, counting how many come before each is the quickest way to sort."""

Measures = npt.NDArray[np.float32]


class CodeWriter:
    """Appends clips to `folder/codes`; continues after the last whole part of an interrupted pass with the same key.

    Clips of a part that is not full lie in scratch files that a killed pass does not leave behind.

    Attributes:
        folder: where the parts lie, and `journal.jsonl`: a line for the key, then one for each finished part.
        key: what decides the codes.
        totals: of a dense dictionary, what the caller counted of the clips appended so far; else None.
    """

    def __init__(self, folder: Path, key: str, *, n_features: int, dense: bool) -> None:
        self.folder = folder
        self.key = key
        self.totals = Totals.of_none(n_features) if dense else None
        self.clip_frames: list[int] = []
        self.parts: list[dict[str, int]] = []
        self.n_entries = self.n_frames = 0
        self._held_clips = self._held_frames = self._held_entries = 0
        with plain_os_errors(folder):
            self._resume()
            self._held = {
                "indptr": Growing(folder, np.int64),
                "features": Growing(folder, np.uint32),
                "values": Growing(folder, np.float32),
                "measures": Growing(folder, np.float32, (len(MEASURES),)),
            }

    @property
    def n_clips(self) -> int:
        """Clips whose codes are safely on disk, or held for the next part."""
        return len(self.clip_frames)

    def append(self, code: FrameCode, measures: Measures) -> None:
        """Add the code and the acoustic measures `[t, 4]` of the next clip."""
        if self.n_frames + code.n_frames >= MAX_FRAMES:
            raise OtoscopeError("An atlas holds at most 2³² frames; build one per part of the corpus.")
        with plain_os_errors(self.folder):
            indptr = code.indptr + (self._held_entries - code.indptr[0])
            self._held["indptr"].append(indptr[1:] if self._held_clips else indptr)
            self._held["features"].append(code.features)
            self._held["values"].append(code.values)
            self._held["measures"].append(measures)
        self._held_clips += 1
        self._held_frames += code.n_frames
        self._held_entries += len(code.features)
        self.n_frames += code.n_frames
        self.clip_frames.append(code.n_frames)
        if self._held_frames >= PART_FRAMES or self._held_entries >= PART_ENTRIES:
            self._flush()

    def close(self) -> list[dict[str, int]]:
        """Write what is held; return the parts as `{"first_frame": …, "n_frames": …, "n_clips": …}`."""
        if self._held_clips:
            self._flush()
        for array in self._held.values():
            array.close()
        return [{key: part[key] for key in ("first_frame", "n_frames", "n_clips")} for part in self.parts]

    def part(self, number: int) -> ArrayFile:
        """Open a written part."""
        return ArrayFile(self.folder / codes_part(number))

    def _flush(self) -> None:
        number = len(self.parts)
        part = {
            "first_frame": self.n_frames - self._held_frames,
            "n_frames": self._held_frames,
            "n_clips": self._held_clips,
            "n_entries": self._held_entries,
        }
        with atomic_path(self.folder / codes_part(number)) as temporary:
            write_arrays(temporary, self._held)
        if self.totals is not None:
            with atomic_path(self.folder / _totals_of(number)) as temporary:
                self.totals.save(temporary)
        clip_frames = self.clip_frames[-self._held_clips :]
        self._note({**part, "clip_frames": clip_frames, "check": _check(self.folder / codes_part(number))})
        (self.folder / _totals_of(number - 1)).unlink(missing_ok=True)
        self.parts.append(part)
        self.n_entries += self._held_entries
        self._held_clips = self._held_frames = self._held_entries = 0
        for array in self._held.values():
            array.clear()

    def _resume(self) -> None:
        """Take over the leading parts that are as they were written; forget all others."""
        header = {"format": FORMAT, "version": VERSION, "key": self.key}
        lines = _whole_lines(self.folder / JOURNAL)
        if not lines or lines[0][0] != header:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._note(header)
            return
        done = 0
        while done + 1 < len(lines) and _check(self.folder / codes_part(done)) == lines[done + 1][0]["check"]:
            done += 1
        if self.totals is not None and done:
            try:
                self.totals = Totals.load(ArrayFile(self.folder / _totals_of(done - 1)))
            except DamagedError:  # those of earlier parts are gone
                done = 0
        for part, _ in lines[1 : done + 1]:
            self.clip_frames += part.pop("clip_frames")
            self.parts.append({name: value for name, value in part.items() if name != "check"})
            self.n_frames += part["n_frames"]
            self.n_entries += part["n_entries"]
        os.truncate(self.folder / JOURNAL, lines[done][1])
        _keep_only(self.folder / "codes", {Path(codes_part(number)).name for number in range(done)})
        _keep_only(self.folder / "totals", {Path(_totals_of(done - 1)).name})

    def _note(self, line: dict[str, Any]) -> None:
        with open(self.folder / JOURNAL, "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _totals_of(number: int) -> str:
    return f"totals/{number:05d}.safetensors"


def _keep_only(folder: Path, names: Collection[str]) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in names:
            path.unlink()


def _check(path: Path) -> str:
    """Return what changes with any byte of a file; "" if it cannot be read."""
    if not path.is_file():
        return ""
    return xxhash.xxh3_64_hexdigest(block_checks(path).tobytes())


def _whole_lines(path: Path) -> list[tuple[dict[str, Any], int]]:
    """Return the leading lines that were written whole, and where each ends."""
    found: list[tuple[dict[str, Any], int]] = []
    end = 0
    for raw in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
        try:
            line = json.loads(raw)
        except ValueError:
            break
        if not raw.endswith(b"\n") or not isinstance(line, dict):
            break
        end += len(raw)
        found.append((line, end))
    return found


def frame_code(
    code: SparseCode, floors: npt.NDArray[np.float32] | None = None, totals: Totals | None = None
) -> FrameCode:
    """Return the entries of a code that are above 0 (and above their feature's floor), features ascending.

    Given `totals`, all entries above 0 are counted in them.
    """
    values, indices = plain_code(code)
    if totals is not None and floors is not None:
        totals.count(values, indices, floors)
    return FrameCode(*_compact(values, indices, np.zeros(1, np.float32) if floors is None else floors))


def sides_code(
    frames: npt.NDArray[np.float32], floors: npt.NDArray[np.float32], totals: Totals | None = None
) -> FrameCode:
    """Return what `frame_code` returns for frames `[t, d]` whose features are the two sides of every unit: first all
    that are above 0, then, as features `d…2d`, all that are below."""
    n_kept = _n_kept(frames, floors) if totals is None else totals.count_sides(frames, floors)
    return FrameCode(*sides_above(frames, floors, n_kept))


def plain_code(code: SparseCode) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Return values and indices `[t, k]` of a code as arrays."""
    return code.values.detach().float().cpu().contiguous().numpy(), code.indices.cpu().contiguous().numpy()


@numba.njit(cache=True, nogil=True)
def _n_kept(frames, floors):  # type: ignore[no-untyped-def]
    n_frames, d = frames.shape
    n = 0
    for t in range(n_frames):
        for i in range(d):
            n += frames[t, i] > floors[i]
            n += -frames[t, i] > floors[d + i]
    return n


@numba.njit(cache=True, nogil=True)
def _compact(values, indices, floors):  # type: ignore[no-untyped-def]
    """Entries above the floors (one for all, or one for each feature), features ascending within every frame."""
    n_frames, k = values.shape
    same, middle = len(floors) == 1, len(floors) // 2
    indptr = np.zeros(n_frames + 1, dtype=np.int64)
    features = np.empty(n_frames * k + 1, dtype=np.uint32)
    kept = np.empty(n_frames * k + 1, dtype=np.float32)
    late, late_values = np.empty(k, dtype=np.uint32), np.empty(k, dtype=np.float32)
    before, bits_before = np.empty(k, dtype=np.uint32), np.empty(k, dtype=np.uint32)
    n = 0
    for t in range(n_frames):
        first = n
        for j in range(k):  # written in any case and overwritten if not kept: no branch to predict
            i = indices[t, j]
            features[n], kept[n] = i, values[t, j]
            n += values[t, j] > floors[0 if same else i]
        if not same:  # both signs of neurons: each half of the features is in order
            at, n_late = first, 0
            for e in range(first, n):
                i, value = features[e], kept[e]
                features[at], kept[at], late[n_late], late_values[n_late] = i, value, i, value
                at += i < middle
                n_late += i >= middle
            features[at:n], kept[at:n] = late[:n_late], late_values[:n_late]
        _sort(features[first:n], kept[first:n].view(np.uint32), before, bits_before)
        indptr[t + 1] = n
    return indptr, features[:n].copy(), kept[:n].copy()


@numba.njit(cache=True, nogil=True)
def _sort(features, bits, before, bits_before):  # type: ignore[no-untyped-def]
    """Order entries, given by their features and the bits of their values, by feature, in place."""
    n = len(features)
    ascending = True
    for e in range(1, n):
        ascending &= features[e - 1] < features[e]
    if ascending:
        return
    if n <= FEW:
        before[:n], bits_before[:n] = features, bits
        total = 0
        for e in range(n):
            feature, at = before[e], 0
            for other in range(n):  # many at a time
                at += before[other] < feature
            features[at], bits[at] = feature, bits_before[e]
            total += at
        if total == n * (n - 1) // 2:
            return
        features[:], bits[:] = before[:n], bits_before[:n]  # a feature is there twice
    keys = np.empty(n, dtype=np.uint64)
    for e in range(n):
        keys[e] = (np.uint64(features[e]) << np.uint64(32)) | np.uint64(bits[e])
    keys.sort()
    for e in range(n):
        features[e] = np.uint32(keys[e] >> np.uint64(32))
        bits[e] = np.uint32(keys[e] & np.uint64(0xFFFFFFFF))
