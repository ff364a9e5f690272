"""The one pass over the clips: every clip's code is written once, in parts that are cut the same way whoever makes them.

A part is closed with the clip that fills it (`format.PART_FRAMES`, `PART_ENTRIES`), so parts depend on the clips alone:
not on where a pass was interrupted, nor on which machine encoded which clip.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from otoscope.atlas.codes import FrameCode
from otoscope.atlas.format import PART_ENTRIES, PART_FRAMES, codes_part
from otoscope.dictionaries import SparseCode
from otoscope.errors import OtoscopeError
from otoscope.storage import atomic_path, read_json, write_json
from otoscope.storage.arrays import ArrayFile, block_checks, write_arrays

JOURNAL = {"format": "otoscope-atlas-pass", "version": 1}
MAX_FRAMES = 2**32


class CodeWriter:
    """Appends clips to `folder/codes`; continues after the last whole part of an interrupted pass with the same key."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key
        self.clip_frames: list[int] = []
        self.parts: list[dict[str, int]] = []
        self.n_entries = 0
        self._held: list[tuple[FrameCode, npt.NDArray[np.float32]]] = []
        self._held_frames = self._held_entries = 0
        self._resume()

    @property
    def n_clips(self) -> int:
        """Clips whose codes are safely on disk, or held for the next part."""
        return len(self.clip_frames)

    @property
    def n_frames(self) -> int:
        """Frames of these clips."""
        return sum(self.clip_frames)

    def append(self, code: FrameCode, measures: npt.NDArray[np.float32]) -> None:
        """Add the code and the acoustic measures `[t, 4]` of the next clip."""
        if self.n_frames + code.n_frames >= MAX_FRAMES:
            raise OtoscopeError("An atlas holds at most 2³² frames; build one per part of the corpus.")
        self._held.append((code, measures))
        self._held_frames += code.n_frames
        self._held_entries += len(code.features)
        self.clip_frames.append(code.n_frames)
        if self._held_frames >= PART_FRAMES or self._held_entries >= PART_ENTRIES:
            self._flush()

    def close(self) -> list[dict[str, int]]:
        """Write what is held; return the parts as `{"first_frame": …, "n_frames": …, "n_clips": …}`."""
        if self._held:
            self._flush()
        return [{key: part[key] for key in ("first_frame", "n_frames", "n_clips")} for part in self.parts]

    def part(self, number: int) -> ArrayFile:
        """Open a written part."""
        return ArrayFile(self.folder / codes_part(number))

    def _flush(self) -> None:
        codes = [code for code, _ in self._held]
        counts = np.concatenate([np.diff(code.indptr) for code in codes])
        arrays = {
            "indptr": np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
            "features": np.concatenate([code.features for code in codes]),
            "values": np.concatenate([code.values for code in codes]),
            "measures": np.concatenate([measures for _, measures in self._held]),
        }
        path = self.folder / codes_part(len(self.parts))
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            write_arrays(temporary, arrays)
        self.parts.append(
            {
                "first_frame": self.n_frames - self._held_frames,
                "n_frames": self._held_frames,
                "n_clips": len(self._held),
                "n_entries": self._held_entries,
                "check": _check(path),
            }
        )
        self.n_entries += self._held_entries
        self._held, self._held_frames, self._held_entries = [], 0, 0
        self._write_journal()

    def _resume(self) -> None:
        journal = self.folder / "journal.json"
        state: dict[str, Any] = {}
        if journal.exists():
            state = read_json(journal, **JOURNAL)  # type: ignore[arg-type]
        if state.get("key") != self.key:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._write_journal()
            return
        clip_frames = state["clip_frames"]
        for number, part in enumerate(state["parts"]):
            path = self.folder / codes_part(number)
            if not path.is_file() or _check(path) != part["check"]:
                break
            at = len(self.clip_frames)
            self.clip_frames += clip_frames[at : at + part["n_clips"]]
            self.parts.append(part)
            self.n_entries += part["n_entries"]

    def _write_journal(self) -> None:
        done = sum(part["n_clips"] for part in self.parts)
        state = {**JOURNAL, "key": self.key, "parts": self.parts, "clip_frames": self.clip_frames[:done]}
        write_json(self.folder / "journal.json", state)


def _check(path: Path) -> int:
    return int(
        np.bitwise_xor.reduce(block_checks(path) * np.arange(1, 2 * len(block_checks(path)), 2, dtype=np.uint64))
    )


def frame_code(code: SparseCode, floors: npt.NDArray[np.float32] | None = None) -> FrameCode:
    """Return the entries of a code that are above 0 (and above their feature's floor), features ascending."""
    values = code.values.detach().float().cpu().contiguous().numpy()
    indices = code.indices.cpu().contiguous().numpy()
    floors = np.zeros(1, np.float32) if floors is None else floors
    return FrameCode(*_compact(values, indices, floors))


@numba.njit(cache=True, nogil=True)
def _compact(values, indices, floors):  # type: ignore[no-untyped-def]
    n_frames, k = values.shape
    same = len(floors) == 1
    indptr = np.zeros(n_frames + 1, dtype=np.int64)
    for t in range(n_frames):
        n = 0
        for j in range(k):
            n += values[t, j] > (floors[0] if same else floors[indices[t, j]])
        indptr[t + 1] = indptr[t] + n
    features = np.empty(indptr[n_frames], dtype=np.uint32)
    kept = np.empty(indptr[n_frames], dtype=np.float32)
    row_features = np.empty(k, dtype=np.int64)
    row_values = np.empty(k, dtype=np.float32)
    for t in range(n_frames):
        n, at, ascending = 0, indptr[t], True
        for j in range(k):
            if values[t, j] > (floors[0] if same else floors[indices[t, j]]):
                row_features[n] = indices[t, j]
                row_values[n] = values[t, j]
                ascending &= n == 0 or row_features[n - 1] < row_features[n]
                n += 1
        if ascending:
            for j in range(n):
                features[at + j] = row_features[j]
                kept[at + j] = row_values[j]
        else:
            order = np.argsort(row_features[:n])
            for j in range(n):
                features[at + j] = row_features[order[j]]
                kept[at + j] = row_values[order[j]]
    return indptr, features, kept
