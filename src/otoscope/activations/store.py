"""Activations on disk: valid frames only, read lazily by frame, by clip, or in shuffled batches."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from otoscope.activations.shards import is_whole, open_shard, verify_shard
from otoscope.activations.shuffle import Block, FrameBatch, blocks_of, joined, shuffled_batches
from otoscope.errors import InputError, OtoscopeError, nearest
from otoscope.models.clock import Clock
from otoscope.storage import read_json

FORMAT, VERSION = "otoscope-activations", 1
CLIPS = pa.schema([("clip_id", pa.string()), ("shard", pa.int32()), ("offset", pa.int64()), ("n_frames", pa.int64())])
"""`clips.parquet`: where each clip lies; `offset` counts from the start of its shard."""
_OPEN_SHARDS = 256


class ActivationStore:
    """A finished harvest. Opening it reads its tables; activations are read from disk when they are asked for."""

    def __init__(self, folder: Path, meta: dict[str, Any], clips: Mapping[str, tuple[int, int]]) -> None:
        self.folder = folder
        self.meta = meta
        self.clips = clips
        """Clip id → (first frame, number of frames), in the order of the corpus."""
        self.sites: tuple[str, ...] = tuple(meta["sites"])
        self.n_frames: int = meta["n_frames"]
        first = meta["sites"][self.sites[0]]["shards"]
        self._starts = [0, *accumulate(entry["n_frames"] for entry in first)]
        self._open: OrderedDict[tuple[str, int], torch.Tensor] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Self:
        """Open a finished store; sizes of all shards are checked (their content is by `verify`).

        Raises:
            OtoscopeError: missing, unfinished, damaged, or of another format.
        """
        folder = Path(folder)
        if not (folder / "meta.json").exists() and (folder / "journal.jsonl").exists():
            raise OtoscopeError(f"The harvest in {folder} is not finished; run the same harvest again to go on.")
        meta = read_json(folder / "meta.json", format=FORMAT, version=VERSION)
        for site, facts in meta["sites"].items():
            for entry in facts["shards"]:
                if not is_whole(folder / site / entry["file"], entry):
                    path = folder / site / entry["file"]
                    raise OtoscopeError(f"The shard {path} is missing or cut; delete {folder} and harvest again.")
        starts = [0, *accumulate(e["n_frames"] for e in next(iter(meta["sites"].values()))["shards"])]
        try:
            table = pq.read_table(folder / "clips.parquet").select(CLIPS.names)
            columns = [column.to_pylist() for column in table.columns]
            clips = {
                clip_id: (starts[shard] + offset, n_frames)
                for clip_id, shard, offset, n_frames in zip(*columns, strict=True)
            }
        except (OSError, pa.ArrowException, KeyError, IndexError) as error:
            raise OtoscopeError(f"{folder / 'clips.parquet'} is missing or damaged ({error}).") from error
        return cls(folder, meta, clips)

    @property
    def clock(self) -> Clock:
        """Which moment of its clip each frame stands for."""
        return Clock(**self.meta.get("clock", {}))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what was harvested: model, sites, clips and the checksums of all shards."""
        facts = {key: self.meta[key] for key in ("weights_hash", "audio_fingerprint", "dtype", "n_frames")}
        sites = {site: [e["sha256"] for e in facts["shards"]] for site, facts in self.meta["sites"].items()}
        return hashlib.sha256(json.dumps([facts, sites], sort_keys=True).encode()).hexdigest()

    def d(self, site: str) -> int:
        """Return the width of a site."""
        return int(self._site(site)["d"])

    def mean(self, site: str) -> np.ndarray:
        """Return the mean of each unit `[d]`, fp64, over all frames."""
        return np.asarray(self._site(site)["mean"], dtype=np.float64)

    def scale(self, site: str) -> float:
        """Return the factor that gives centred frames a mean squared length of d."""
        return float(self._site(site)["scale"])

    def read(self, site: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return frames `[start, stop)` as float32 `[t, d]`.

        Raises:
            InputError: unknown site, or a range outside the store.
        """
        stop = self.n_frames if stop is None else stop
        if not 0 <= start <= stop <= self.n_frames:
            raise InputError(f"Frames {start} to {stop} are not within the {self.n_frames} frames of this store.")
        return self._rows(site, start, stop).float().numpy()

    def clip(self, site: str, clip_id: str) -> np.ndarray:
        """Return the frames of a clip as float32 `[t, d]`.

        Raises:
            InputError: unknown site or clip.
        """
        offset, n_frames = self._span(clip_id)
        return self.read(site, offset, offset + n_frames)

    def iter_clips(self, site: str) -> Iterator[tuple[str, np.ndarray]]:
        """Yield `(clip_id, frames [t, d])` in the order of the corpus."""
        for clip_id, (offset, n_frames) in self.clips.items():
            yield clip_id, self.read(site, offset, offset + n_frames)

    @overload
    def batches(
        self,
        sites: str,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        clips: Collection[str] | None = None,
        segment: int = 1,
        skip: int = 0,
    ) -> Iterator[torch.Tensor]: ...
    @overload
    def batches(
        self,
        sites: list[str] | tuple[str, ...],
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        clips: Collection[str] | None = None,
        segment: int = 1,
        skip: int = 0,
    ) -> Iterator[FrameBatch]: ...
    def batches(
        self,
        sites: str | list[str] | tuple[str, ...],
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        clips: Collection[str] | None = None,
        segment: int = 1,
        skip: int = 0,
    ) -> Iterator[torch.Tensor] | Iterator[FrameBatch]:
        """Yield every frame (of `clips`) once, shuffled, in batches of `batch_size`; the last may be smaller.

        Of one site: float32 tensors `[b, d]`. Of a list of sites: the same rows of each, as `FrameBatch`. With
        `segment` above 1, runs of that many adjacent frames of a clip stay together; they tile each clip, and its
        last one is filled up with zeros. The order depends only on the store, `seed`, `epoch`, `segment` and the set
        of clips. The first `skip` batches are left out.

        Raises:
            InputError: unknown site or clip, or a batch size or segment below 1.
        """
        names = [sites] if isinstance(sites, str) else list(dict.fromkeys(str(site) for site in sites))
        for name in names:
            self._site(name)
        blocks = self._blocks(clips, segment)
        if batch_size < 1 or segment < 1:
            raise InputError(f"batch_size and segment must be at least 1, got {batch_size} and {segment}.")
        if not names:
            raise InputError("Name at least one site to read.")

        def read(pool: Sequence[Block]) -> list[torch.Tensor]:
            spans = joined(span for block in pool for span in block)
            return [torch.cat([self._rows(site, start, stop) for start, stop in spans]) for site in names]

        found = shuffled_batches(read, blocks, batch_size, seed=seed, epoch=epoch, segment=segment, skip=skip)
        if isinstance(sites, str):
            if segment > 1:
                raise InputError("Segments come with a mask: ask for a list of sites, not a single one.")
            return (rows[0] for rows, _ in found)
        return (FrameBatch(dict(zip(names, rows, strict=True)), segment, inside) for rows, inside in found)

    def _blocks(self, clips: Collection[str] | None, segment: int) -> list[Block]:
        if segment < 2:
            spans = [(0, self.n_frames)] if clips is None else [self._bounds(name) for name in set(clips)]
            return blocks_of(joined(sorted(spans)))
        names = self.clips if clips is None else set(clips)
        return blocks_of(sorted(self._bounds(name) for name in names), segment)

    def verify(self) -> None:
        """Compare every shard with its checksum.

        Raises:
            OtoscopeError: names the shard that is missing or damaged.
        """
        for site, facts in self.meta["sites"].items():
            for entry in facts["shards"]:
                verify_shard(self.folder / site / entry["file"], entry)

    def _site(self, site: str) -> dict[str, Any]:
        try:
            return self.meta["sites"][str(site)]  # type: ignore[no-any-return]
        except KeyError:
            raise InputError(
                f"This store has no site {str(site)!r}; it has {', '.join(self.sites)}"
                f"{nearest(str(site), self.sites) or '.'}"
            ) from None

    def _span(self, clip_id: str) -> tuple[int, int]:
        if clip_id not in self.clips:
            raise InputError(f"This store has no clip {clip_id!r}{nearest(clip_id, self.clips) or '.'}")
        return self.clips[clip_id]

    def _bounds(self, clip_id: str) -> tuple[int, int]:
        offset, n_frames = self._span(clip_id)
        return offset, offset + n_frames

    def _rows(self, site: str, start: int, stop: int) -> torch.Tensor:
        """Return frames `[start, stop)` in the stored type; within one shard this copies nothing."""
        entries = self._site(site)["shards"]
        parts, at = [], start
        shard = bisect_right(self._starts, start) - 1
        while at < stop:
            base, end = self._starts[shard], min(stop, self._starts[shard + 1])
            parts.append(self._shard(site, shard, entries[shard]["file"])[at - base : end - base])
            at, shard = end, shard + 1
        if not parts:
            return torch.empty((0, self.d(site)), dtype=getattr(torch, self.meta["dtype"]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _shard(self, site: str, index: int, file: str) -> torch.Tensor:
        key = (str(site), index)
        with self._lock:
            if key not in self._open:
                self._open[key] = open_shard(self.folder / str(site) / file)
                if len(self._open) > _OPEN_SHARDS:
                    self._open.popitem(last=False)
            self._open.move_to_end(key)
            return self._open[key]

    def __len__(self) -> int:
        return self.n_frames

    def __repr__(self) -> str:
        sites = ", ".join(f"{site} (d={self.d(site)})" for site in self.sites)
        return (
            f"ActivationStore({str(self.folder)!r}: {self.n_frames:,} frames "
            f"({self.n_frames * self.clock.frame_s:,.0f} s) of "
            f"{len(self.clips):,} clips; {sites}; {self.meta['dtype']})"
        )
