"""Frames straight from the encoder, for training without a store on disk."""

from __future__ import annotations

import hashlib
import json
import threading
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otoscope.activations.filling import batch_windows, decoded_ahead, refuse_values
from otoscope.activations.harvesting import frame_sites
from otoscope.activations.shards import DTYPES
from otoscope.activations.shuffle import POOL_FRAMES, Block, FrameBatch, shuffled_batches
from otoscope.activations.statistics import SiteStatistics
from otoscope.audio import Corpus
from otoscope.errors import InputError, nearest
from otoscope.models import SpeechModel
from otoscope.progress import ProgressReport, track

CACHE_BYTES = 4 << 30
STATISTICS_FRAMES = 1 << 16
"""Frames (22 minutes of sound) of which the mean and the scale are taken."""

Frames = dict[str, Tensor]
"""Frames `[t, d]` of each site, in 16 bits."""


def stream(
    model: SpeechModel,
    clips: Corpus,
    sites: Sequence[str],
    *,
    dtype: str = "float16",
    cache_bytes: int = CACHE_BYTES,
    pool_frames: int = POOL_FRAMES,
    progress: bool | ProgressReport = True,
) -> EncoderStream:
    """Return a source of frames that runs the encoder when frames are asked for; nothing is written to disk.

    Activations that fit in `cache_bytes` are computed once and kept in memory. Otherwise the encoder runs once in
    every epoch: groups of clips in random order fill a buffer of `pool_frames`, in which frames are shuffled. Frames,
    order and statistics do not depend on which of the two it is.

    Raises:
        InputError: unknown or frameless site, or a `dtype` other than float16 and bfloat16.
    """
    chosen = frame_sites(model, sites)
    if dtype not in DTYPES:
        raise InputError(f"Activations are kept as float16 or bfloat16, not {dtype!r}.")
    return EncoderStream(model, clips, [site.name for site in chosen], dtype, cache_bytes, pool_frames, progress)


class EncoderStream:
    """What training reads: frames of a corpus at some sites, in groups of clips that the encoder runs on together.

    A group is always computed as a whole, so that its values do not depend on when and for what it is asked for.
    """

    def __init__(
        self,
        model: SpeechModel,
        corpus: Corpus,
        sites: Sequence[str],
        dtype: str,
        cache_bytes: int,
        pool_frames: int,
        progress: bool | ProgressReport,
    ) -> None:
        self.model, self.corpus, self.sites = model, corpus, tuple(sites)
        self.meta: dict[str, Any] = {
            "model": model.name,
            "weights_hash": model.weights_hash,
            "corpus": corpus.name,
            "dtype": dtype,
        }
        self._dtype, self._progress = DTYPES[dtype], progress
        self._cache_bytes, self._pool_frames = cache_bytes, pool_frames
        self._windows = batch_windows(model)
        self._groups = [corpus.clips[at : at + self._windows] for at in range(0, len(corpus), self._windows)]
        self._cache: list[Frames] = []
        self._last: tuple[int, Frames] | None = None
        self._lock = threading.Lock()

    @cached_property
    def clips(self) -> Mapping[str, tuple[int, int]]:
        """Clip id → (first frame, number of frames), in the order of the corpus; on first use every clip is decoded."""
        fits = self._estimated_bytes() <= self._cache_bytes
        counts: list[int] = []
        with track("encode" if fits else "measure", len(self.corpus), self._progress, unit="clips") as advance:
            if fits:
                for index, frames in enumerate(self._computed(range(len(self._groups)), counts)):
                    self._cache.append(frames)
                    advance(len(self._groups[index]))
            else:
                for clip in decoded_ahead(self.corpus.clips):
                    counts.append(self.model.frames(clip))
                    advance(1)
        starts = [0, *accumulate(counts)]
        return {clip.clip_id: span for clip, span in zip(self.corpus, zip(starts, counts, strict=False), strict=True)}

    @property
    def n_frames(self) -> int:
        """Number of frames of all clips."""
        first, count = list(self.clips.values())[-1]
        return first + count

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what decides the frames and their order: model, sound, types and groups."""
        facts = [self.model.weights_hash, str(self.model.dtype), self.corpus.audio_fingerprint, self.meta["dtype"]]
        order = [self._windows, self._pool_frames]
        return hashlib.sha256(json.dumps(["otoscope-stream 1", *facts, *order]).encode()).hexdigest()

    def d(self, site: str) -> int:
        """Return the width of a site."""
        return self.model.width(self._site(site))

    def mean(self, site: str) -> np.ndarray:
        """Return the mean of each unit `[d]`, fp64, over the first `STATISTICS_FRAMES` of random groups."""
        return self._statistics[self._site(site)].mean

    def scale(self, site: str) -> float:
        """Return the factor that gives centred frames a mean squared length of d, over the same frames."""
        return self._statistics[self._site(site)].scale

    def clip(self, site: str, clip_id: str) -> np.ndarray:
        """Return the frames of a clip as float32 `[t, d]`.

        Raises:
            InputError: unknown site or clip.
        """
        first, count = self._span(clip_id)
        index = self._group_at(first)
        with self._lock:
            if not self._cache and (self._last is None or self._last[0] != index):
                self._last = (index, next(self._frames([index])))
            frames = self._cache[index] if self._cache else self._last[1]  # type: ignore[index]
        at = first - self._starts[index]
        return frames[self._site(site)][at : at + count].float().numpy()

    def iter_clips(self, site: str) -> Iterator[tuple[str, np.ndarray]]:
        """Yield `(clip_id, frames [t, d])` in the order of the corpus."""
        for clip_id in self.clips:
            yield clip_id, self.clip(site, clip_id)

    def batches(
        self,
        sites: list[str],
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        clips: Collection[str] | None = None,
        segment: int = 1,
        skip: int = 0,
    ) -> Iterator[FrameBatch]:
        """Yield every frame (of `clips`) once, shuffled, as `ActivationStore.batches` does for a list of sites.

        Raises:
            InputError: unknown site or clip.
        """
        names = [self._site(site) for site in sites]
        wanted = sorted(self._span(name) for name in (self.clips if clips is None else set(clips)))
        by_group: dict[int, Block] = {}
        for first, count in wanted:
            by_group.setdefault(self._group_at(first), []).append((first, first + count))

        def read(pool: Sequence[Block]) -> list[Tensor]:
            indices = [self._group_at(block[0][0]) for block in pool]
            parts: list[list[Tensor]] = [[] for _ in names]
            for index, block, frames in zip(indices, pool, self._frames(indices), strict=True):
                base = self._starts[index]
                for part, name in zip(parts, names, strict=True):
                    part.extend(frames[name][start - base : stop - base] for start, stop in block)
            return [torch.cat(part) for part in parts]

        found = shuffled_batches(
            read,
            list(by_group.values()),
            batch_size,
            seed=seed,
            epoch=epoch,
            segment=segment,
            skip=skip,
            pool_frames=self._pool_frames,
        )
        return (FrameBatch(dict(zip(names, rows, strict=True)), segment, inside) for rows, inside in found)

    @cached_property
    def _starts(self) -> list[int]:
        """The first frame of each group."""
        return [self.clips[group[0].clip_id][0] for group in self._groups]

    @cached_property
    def _statistics(self) -> dict[str, SiteStatistics]:
        order = np.random.default_rng(0).permutation(len(self._groups)).tolist()
        sizes = [self._span(group[-1].clip_id)[0] + self._span(group[-1].clip_id)[1] for group in self._groups]
        enough, seen = [], 0
        for index in order:
            enough.append(index)
            seen += sizes[index] - self._starts[index]
            if seen >= STATISTICS_FRAMES:
                break
        total: dict[str, SiteStatistics] = {}
        for frames in self._frames(enough):
            for site, x in frames.items():
                part = SiteStatistics.of(x)
                total[site] = total[site] + part if site in total else part
        return total

    def _frames(self, indices: Sequence[int]) -> Iterator[Frames]:
        """Yield the frames of some groups, from memory or from the encoder."""
        _ = self.clips
        if self._cache:
            return (self._cache[index] for index in indices)
        return self._computed(indices, [])

    def _computed(self, indices: Sequence[int], counts: list[int]) -> Iterator[Frames]:
        """Run the encoder on some groups; add the number of frames of each of their clips to `counts`."""
        decoded = decoded_ahead([clip for index in indices for clip in self._groups[index]])
        for index in indices:
            parts: dict[str, list[Tensor]] = {site: [] for site in self.sites}
            waiting: list[tuple[str, Tensor, int]] = []
            for _ in self._groups[index]:
                clip = next(decoded)
                counts.append(self.model.frames(clip))
                for window in self.model.windows(clip):
                    if waiting and (len(waiting) == self._windows or waiting[0][1].shape != window.input.shape):
                        self._run(waiting, parts)
                        waiting = []
                    waiting.append((clip.clip_id, window.input, window.n_frames))
            self._run(waiting, parts)
            yield {site: torch.cat(found) for site, found in parts.items()}

    def _run(self, waiting: Sequence[tuple[str, Tensor, int]], parts: dict[str, list[Tensor]]) -> None:
        """Run the encoder on a few windows and keep their valid frames."""
        clip_ids, windows, valid = zip(*waiting, strict=True)
        values = self.model.encode(torch.stack(windows), list(self.sites), valid=valid)
        for site, found in parts.items():
            kept = values[site].to(self._dtype).cpu()
            for row, clip_id, count in zip(range(len(kept)), clip_ids, valid, strict=True):
                frames = kept[row, :count].clone()  # not the padding
                if not frames.isfinite().all():
                    refuse_values(site, clip_id, values[site][row, :count], self._dtype)
                found.append(frames)

    def _estimated_bytes(self) -> float:
        seconds = sum(clip.duration_s for clip in self.corpus)
        return seconds / self.model.clock.frame_s * 2 * sum(self.d(site) for site in self.sites)

    def _group_at(self, frame: int) -> int:
        return bisect_right(self._starts, frame) - 1

    def _site(self, site: str) -> str:
        if str(site) not in self.sites:
            raise InputError(f"This stream has no site {str(site)!r}{nearest(str(site), self.sites) or '.'}")
        return str(site)

    def _span(self, clip_id: str) -> tuple[int, int]:
        if clip_id not in self.clips:
            raise InputError(f"This stream has no clip {clip_id!r}{nearest(clip_id, self.clips) or '.'}")
        return self.clips[clip_id]

    def __repr__(self) -> str:
        of = f"{len(self.corpus):,} clips of {self.corpus.name!r}"
        return f"EncoderStream({self.model.name} on {of}; {', '.join(self.sites)})"
