"""Building an atlas: one pass over the frames, then every feature's statistics, examples, postings and labels."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from otoscope.activations import ActivationStore
from otoscope.atlas import statistics
from otoscope.atlas.atlas import Atlas
from otoscope.atlas.examples import pick_examples
from otoscope.atlas.format import write_meta
from otoscope.atlas.inversion import Inversion
from otoscope.atlas.peaks import ClipPeaks
from otoscope.atlas.postings import Entries, PostingsWriter, strongest
from otoscope.atlas.streams import FrameStream, frame_stream
from otoscope.atlas.tables import write_tables
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary, SparseCode
from otoscope.errors import InputError
from otoscope.evaluation.by_feature import Block, rank_entries
from otoscope.evaluation.label_sets import label_sets, split_clips
from otoscope.evaluation.labeller import N_SHIFTS, Labeller, Rows
from otoscope.models import Clock, SpeechModel
from otoscope.progress import ProgressReport, track
from otoscope.storage import atomic_folder

CHUNK_FRAMES = 8192
DENSE_SHARE = 0.05
"""Of a dense dictionary's features, the postings keep this share of all frames: the strongest."""


def build_atlas(
    source: ActivationStore | SpeechModel,
    dictionary: Dictionary,
    corpus: Corpus,
    to: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    seed: int = 0,
    n_shifts: int = N_SHIFTS,
    progress: bool | ProgressReport = True,
) -> Atlas:
    """Index what every feature of `dictionary` does on `corpus`, and name what it detects.

    Frames come from an activation store or straight from a model. Memory grows with the number of features, not of
    frames; an interrupted build continues when called again. The same inputs give the same bytes.

    Args:
        source: harvested activations of the dictionary's site that hold the corpus's clips, or the model itself.
        dictionary: what to index.
        corpus: the clips, with the tiers and attributes that labels come from.
        to: folder to write; None keeps the atlas in a temporary folder that disappears with it.
        name: what to call it; the dictionary's name if not given.
        seed: decides random examples, the halves of the voices and the shifts of the null.
        n_shifts: how often the labels are moved to see what chance gives.
        progress: True for a bar, False for silence, or a function called as `report(stage, done, total)`.

    Raises:
        InputError: the source lacks the site or clips, or the dictionary does not fit the site.
        OtoscopeError: the folder cannot be written.
    """
    if n_shifts < 2:
        raise InputError(f"n_shifts must be at least 2 to see how far chance varies, got {n_shifts}.")
    stream = frame_stream(source, dictionary, corpus)
    if to is None:
        holder = tempfile.TemporaryDirectory(prefix="otoscope-atlas-")
        atlas = build_atlas(
            source, dictionary, corpus, Path(holder.name) / "atlas",
            name=name, seed=seed, n_shifts=n_shifts, progress=progress,
        )  # fmt: skip
        atlas.holder = holder
        return atlas
    folder = Path(to)
    key = hashlib.sha256(f"{stream.fingerprint} {dictionary.fingerprint} {corpus.fingerprint}".encode()).hexdigest()
    scratch = folder.with_name(f".{folder.name}.building")
    inversion = Inversion(scratch, dictionary.n_features, key)
    _invert(inversion, stream, dictionary, corpus, progress)
    with atomic_folder(folder) as temporary:
        meta = _index(inversion, dictionary, corpus, stream.clock, temporary, seed, n_shifts, progress)
        meta = {"name": name or dictionary.name, "model": stream.model, **meta, "key": key}
        write_meta(temporary, meta)
    shutil.rmtree(scratch, ignore_errors=True)
    return Atlas.open(folder)


def _invert(
    inversion: Inversion,
    stream: FrameStream,
    dictionary: Dictionary,
    corpus: Corpus,
    progress: bool | ProgressReport,
) -> None:
    """Encode the clips that are not on disk yet, a chunk of whole clips at a time."""
    with track("encode", len(corpus), progress, unit="clips", done=inversion.n_clips) as advance:
        pending: list[npt.NDArray[np.float32]] = []
        last = len(corpus) - 1
        for index, (_, frames) in enumerate(stream.clips(corpus, inversion.n_clips), start=inversion.n_clips):
            pending.append(frames)
            if index == last or sum(map(len, pending)) >= CHUNK_FRAMES:
                apart = pending if dictionary.context else [np.concatenate(pending)]
                with torch.inference_mode():
                    code = SparseCode.joined([dictionary.encode(torch.from_numpy(frames)) for frames in apart])
                inversion.append(code, [len(each) for each in pending])
                advance(len(pending))
                pending = []


@dataclass(frozen=True)
class _Job:
    """What every block of features is indexed with."""

    clip_of_frame: npt.NDArray[np.int32]
    n_clips: int
    keep: int
    labeller: Labeller
    seed: int


@dataclass(frozen=True)
class _Indexed:
    """What one block gave: the block as it was, its rows of every table, its postings."""

    block: Block
    rows: dict[str, Rows]
    postings: list[Entries]


def _index_block(block: Block, job: _Job) -> _Indexed:
    frames, values = rank_entries(block.indptr, block.frames, block.values)
    ranked = Block(block.first, block.indptr, frames, values)
    where = (ranked.indptr, frames, values, job.clip_of_frame, job.n_clips)
    stats = statistics.feature_statistics(*where, len(job.clip_of_frame))
    kept = [
        strongest(Entries(frames[start:stop], values[start:stop]), job.keep)
        for start, stop in itertools.pairwise(block.indptr)
    ]
    stats["postings_from"] = np.array([floor for _, floor in kept], dtype=np.float32)
    labels, purities = job.labeller.label(ranked)
    examples = pick_examples(ranked.first, *where, job.seed)
    rows = {"stats": stats, "examples": examples, "labels": labels, "purities": purities}
    return _Indexed(block, rows, [entries for entries, _ in kept])


def _index_blocks(blocks: Iterator[Block], job: _Job) -> Iterator[_Indexed]:
    """Index blocks on all cores (the inner loops release the GIL); results come in order, few wait at a time."""
    n_threads = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    waiting: deque[Future[_Indexed]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        for block in blocks:
            waiting.append(pool.submit(_index_block, block, job))
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _index(
    inversion: Inversion,
    dictionary: Dictionary,
    corpus: Corpus,
    clock: Clock,
    folder: Path,
    seed: int,
    n_shifts: int,
    progress: bool | ProgressReport,
) -> dict[str, Any]:
    """Write everything but `meta.json` and return what goes into it."""
    clip_frames = inversion.clip_frames
    n_frames = sum(clip_frames)
    half, held_out = split_clips(corpus, clip_frames, seed)
    sets = label_sets(corpus, clip_frames, half, clock)
    clip_of_frame = np.repeat(np.arange(len(clip_frames), dtype=np.int32), clip_frames)
    labeller = Labeller(sets, clip_of_frame, half, seed=seed, n_shifts=n_shifts)
    keep = max(1, int(DENSE_SHARE * n_frames)) if dictionary.dense else n_frames
    job = _Job(clip_of_frame, len(clip_frames), keep, labeller, seed)

    writer = PostingsWriter(folder / "postings", dictionary.n_features)
    peaks = ClipPeaks(len(clip_frames), clip_of_frame)
    rows: dict[str, list[Rows]] = {}
    with track("index and label", dictionary.n_features, progress, unit="features") as advance:
        for each in _index_blocks(inversion.blocks(), job):
            for entries in each.postings:
                writer.append(entries)
            peaks.add(each.block)
            for table, part in each.rows.items():
                rows.setdefault(table, []).append(part)
            advance(len(each.block))
    parts = writer.close()
    write_tables(folder, corpus, clip_frames, half, sets, dictionary, rows, peaks.columns())
    return {
        "site": dictionary.site,
        "dictionary": {
            "name": dictionary.name,
            "kind": dictionary.kind,
            "fingerprint": dictionary.fingerprint,
            "dense": dictionary.dense,
        },
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint},
        "n_features": dictionary.n_features,
        "n_frames": n_frames,
        "n_clips": len(clip_frames),
        "frame_s": clock.frame_s,
        "first_frame_s": clock.offset_s,
        "seed": seed,
        "n_shifts": n_shifts,
        "held_out": held_out,
        "labels": [
            {
                "kind": each.kind,
                "n_classes": len(each.classes),
                "n_dropped": each.n_dropped,
                "whole_clips": each.whole_clips,
            }
            for each in sets
        ],
        "postings": {"parts": parts, "share_of_frames": DENSE_SHARE if dictionary.dense else 1.0},
    }
