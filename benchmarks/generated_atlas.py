"""Make an atlas of any size through the real writers, in bounded memory: the same arguments give the same bytes.

Clips are made of segments (4 to 14 frames) of one of `n_sounds` sounds, drawn by Zipf's law. Every sound has features
of its own, again drawn by Zipf's law, and 64 features fire everywhere, the commonest in nearly half of all frames. So
densities follow a power law over five orders of magnitude, and frames of the same sound share features. A fifth of the
features carries labels (made up, with made-up scores).
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import torch

from otoscope.atlas.building.code_pass import CodeWriter
from otoscope.atlas.building.cofiring import CofiringCounter
from otoscope.atlas.building.indexing import PostingsWriter, clip_bounds, joined
from otoscope.atlas.building.statistics import feature_statistics
from otoscope.atlas.building.tables import (
    BAND_FIGURES,
    LABEL_FIGURES,
    write_acoustics,
    write_bands,
    write_classes,
    write_clips,
    write_features,
    write_labels,
)
from otoscope.atlas.building.transposing import transposed
from otoscope.atlas.codes import FrameCode
from otoscope.atlas.format import FORMAT, VERSION
from otoscope.atlas.labels.judging import Judged
from otoscope.atlas.labels.natures import NATURES
from otoscope.evaluation.naming.by_feature import ranking
from otoscope.storage.sealed import seal

N_COMMON = 64
DRAWS = 64
"""Features drawn for a segment; about 40 of them differ, and each fires in three quarters of its frames."""
KINDS = (("phone", 40), ("sound_class", 50), ("diphone", 400), ("word", 1510))
"""Kinds of labels and how many classes each has."""
N_ROWS = 4
"""Scored classes of each labelled feature."""


@dataclass(frozen=True)
class Size:
    """What to make: as many clips as it takes to fill `n_entries`, or exactly `n_clips` of `clip_frames` frames."""

    n_features: int
    n_entries: int = 0
    n_clips: int = 0
    clip_frames: int = 0
    n_sounds: int = 2000
    seed: int = 0

    @property
    def name(self) -> str:
        """Folder name: changes with everything that decides the bytes."""
        code = Path(__file__).read_bytes() + repr(self).encode()
        return f"atlas-{self.n_features}-{self.n_entries or self.n_clips}-{hashlib.sha256(code).hexdigest()[:8]}"


def make(size: Size, work: Path) -> Path:
    """Return the folder of an atlas of this size; make it if it is not there."""
    folder = work / size.name
    if (folder / "meta.json").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    writer = CodeWriter(work / f".{size.name}.building", size.name, n_features=size.n_features, dense=False)
    measures = np.zeros((0, 4), np.float32)
    for number, code in enumerate(_clips(size, writer.n_clips), writer.n_clips):
        if len(measures) < code.n_frames:
            measures = np.random.default_rng(number).normal(-40, 10, (2 * code.n_frames, 4)).astype(np.float32)
        writer.append(code, measures[: code.n_frames])
        if size.n_entries and writer.n_entries + writer._held_entries >= size.n_entries:
            break
    parts = writer.close()
    print(f"{writer.n_clips:,} clips, {writer.n_frames:,} frames, {writer.n_entries:,} entries", file=sys.stderr)
    new = work / f".{size.name}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    meta = _index(size, writer, parts, new)
    shutil.move(writer.folder / "codes", new / "codes")
    seal(new, meta, format=FORMAT, version=VERSION)
    new.rename(folder)
    shutil.rmtree(writer.folder)
    return folder


def _clips(size: Size, first: int) -> Iterator[FrameCode]:
    rng = np.random.default_rng(size.seed)
    order = rng.permutation(size.n_features).astype(np.uint32)
    common, rest = np.sort(order[:N_COMMON]), order[N_COMMON:]
    n_own = len(rest) // size.n_sounds
    own = rest[: n_own * size.n_sounds].reshape(size.n_sounds, n_own)
    often = 0.45 / rng.permutation(np.arange(1, N_COMMON + 1))
    strength = rng.lognormal(0.0, 0.5, size.n_features).astype(np.float32)
    lengths = rng.integers(100, 401, 1 << 20)
    for number in range(first, size.n_clips or len(lengths)):
        n_frames = size.clip_frames or int(lengths[number])
        yield FrameCode(
            *_code(number, n_frames, own, _zipf(size.n_sounds, 0.8), _zipf(n_own, 1.0), common, often, strength)
        )


def _zipf(n: int, exponent: float) -> np.ndarray:
    weights = np.arange(1, n + 1) ** -exponent
    return np.cumsum(weights) / weights.sum()


@numba.njit(cache=True)
def _code(seed, n_frames, own, sound_steps, own_steps, common, often, strength):  # type: ignore[no-untyped-def]
    np.random.seed(seed)
    indptr = np.zeros(n_frames + 1, np.int64)
    features = np.empty(n_frames * (DRAWS + N_COMMON), np.uint32)
    values = np.empty(len(features), np.float32)
    at, left, length = 0, 0, 1
    drawn = np.zeros(DRAWS, np.uint32)
    for t in range(n_frames):
        if left == 0:
            length = left = np.random.randint(4, 15)
            sound = min(np.searchsorted(sound_steps, np.random.random()), len(own) - 1)
            for j in range(DRAWS):
                drawn[j] = own[sound, min(np.searchsorted(own_steps, np.random.random()), len(own_steps) - 1)]
            drawn.sort()
        shape = 0.4 + 0.6 * np.sin(np.pi * (left - 0.5) / length)
        left -= 1
        start = at
        for j in range(DRAWS):
            if (j == 0 or drawn[j] != drawn[j - 1]) and np.random.random() < 0.75:
                features[at] = drawn[j]
                at += 1
        for j in range(len(common)):
            if np.random.random() < often[j]:
                features[at] = common[j]
                at += 1
        features[start:at].sort()
        for entry in range(start, at):
            values[entry] = strength[features[entry]] * shape * (0.3 + np.random.exponential(0.7)) + 1e-3
        indptr[t + 1] = at
    return indptr, features[:at].copy(), values[:at].copy()


def _index(size: Size, writer: CodeWriter, parts: list[dict[str, int]], folder: Path) -> dict[str, Any]:
    """Write all tables and the postings as `build_atlas` does, with made-up labels."""
    numbered = [(part["first_frame"], writer.part(number)) for number, part in enumerate(parts)]
    turned = transposed(numbered, writer.folder / "transposed", size.n_features)
    bounds = clip_bounds(writer.clip_frames)
    n_frames = int(bounds[-1])
    partners = CofiringCounter(numbered, turned.counts, n_frames)
    postings = PostingsWriter(folder, bounds)
    statistics = []
    for block in turned.blocks():
        ranked = block.values[ranking(block.indptr, block.values)]
        statistics.append(feature_statistics(block, ranked, bounds[:-1], n_frames) | partners.of(block))
        postings.append(block)
        print(f"\r{block.first:,} features", end="", file=sys.stderr)
    posting_parts = postings.close()
    turned.close()
    n = size.n_features
    judged = _judged(size)
    purities = {"purity": np.full(n, np.nan, np.float32), "purity_class": np.full(n, -1)}
    dictionary = SimpleNamespace(n_features=n, kind="topk", name="made-up", directions=_directions)
    half = (np.arange(writer.n_clips) % 2).astype(np.uint8)
    write_clips(folder, _Corpus(writer.n_clips), writer.clip_frames, half)
    columns = joined(statistics)
    partners.complete(columns)
    write_features(folder, dictionary, columns, purities, judged, np.ones(n, np.float32))
    write_labels(folder, judged.pairs, n)
    write_bands(folder, judged.bands, n)
    write_acoustics(folder, _acoustics(size))
    write_classes(folder, _labelling(), judged.pairs)
    return {
        "name": "made-up", "model": {"model": "none", "weights_hash": "0" * 64}, "source": "none", "site": "none",
        "dictionary": {"name": "made-up", "kind": "topk", "fingerprint": "0" * 64, "dense": False},
        "corpus": {"name": "made-up", "fingerprint": "0" * 64},
        "n_features": n, "n_frames": n_frames, "n_clips": writer.n_clips, "frame_s": 0.02, "first_frame_s": 0.0,
        "seed": 0, "n_shifts": 20, "held_out": "speakers", "labels": [{"kind": kind} for kind, _ in KINDS],
        "codes": {"parts": parts}, "postings": {"parts": posting_parts, "n_entries": postings.n_entries},
    }  # fmt: skip


def _directions(features: list[int]) -> torch.Tensor:
    return torch.randn(len(features), 16, generator=torch.Generator().manual_seed(features[0]))


class _Corpus:
    """As much of a corpus as `write_clips` reads."""

    def __init__(self, n_clips: int) -> None:
        self.n_clips = n_clips
        self.content_hashes = [f"{i:064x}" for i in range(n_clips)]

    def __iter__(self) -> Iterator[SimpleNamespace]:
        for i in range(self.n_clips):
            yield SimpleNamespace(clip_id=f"clip-{i:07d}", speaker=f"voice-{i % 500:03d}", start_s=0.0, end_s=None)


def _labelling() -> SimpleNamespace:
    """As much of a corpus's labels as `write_classes` reads."""
    kinds = [
        SimpleNamespace(
            name=kind, classes=tuple(f"{kind}-{i:04d}" for i in range(count)), n_intervals=np.full(count, 100)
        )
        for kind, count in KINDS
    ]
    return SimpleNamespace(kinds=kinds, n_positive=[np.full((2, count + 1), 1000) for _, count in KINDS])


def _judged(size: Size) -> Judged:
    """Scored classes for a fifth of the features, most of them named; two bands for half of these."""
    rng = np.random.default_rng(size.seed + 1)
    n, n_classes = size.n_features, sum(count for _, count in KINDS)
    named = np.sort(rng.choice(n, n // 5, replace=False))
    n_rows = N_ROWS * len(named)
    pairs: dict[str, np.ndarray] = {
        "feature": np.repeat(named, N_ROWS),
        "class": (rng.zipf(1.3, n_rows) + np.tile(np.arange(N_ROWS) * 300, len(named))) % n_classes,
        "skill": -np.sort(-rng.beta(2, 5, (len(named), N_ROWS)), axis=1).ravel(),
        "rank": np.tile(np.arange(N_ROWS, dtype=np.int32), len(named)),
    }
    pairs |= {name: rng.beta(2, 5, n_rows) for name in LABEL_FIGURES}
    pairs["f1"] = pairs["skill"].copy()
    order = np.lexsort((-pairs["skill"], pairs["class"]))
    classes = pairs["class"][order]
    pairs["class_rank"] = np.empty(n_rows, dtype=np.int64)
    pairs["class_rank"][order] = np.arange(n_rows) - np.searchsorted(classes, classes)
    first = np.full(n, -1)
    first[named] = np.arange(0, n_rows, N_ROWS)
    label = np.where(rng.random(n) < 0.8, first, -1)
    banded = np.repeat(named[::2], 2)
    bands: dict[str, np.ndarray] = {
        "feature": banded,
        "role": np.zeros(len(banded), np.uint8),
        "step": np.tile(np.arange(2, dtype=np.uint8), len(banded) // 2),
        "members": np.stack([rng.integers(0, n_classes, len(banded)), *3 * [np.full(len(banded), -1)]], axis=1),
        "passes": rng.random(len(banded)) < 0.5,
        "band_low": rng.random(len(banded)),
        "band_high": np.full(len(banded), np.inf),
    }
    bands |= {name: rng.beta(2, 5, len(banded)) for name in BAND_FIGURES}
    nature = np.where(label >= 0, rng.integers(1, len(NATURES), n), 0).astype(np.uint8)
    return Judged(pairs, bands, label, first, (label >= 0).astype(np.uint8), nature)


def _acoustics(size: Size) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(size.seed + 2)
    found = {name: rng.normal(0, 0.2, (size.n_features, 4)) for name in ("correlation", "low", "high", "partial")}
    found["explained"] = rng.beta(1, 9, size.n_features)
    return {name: values.astype(np.float32) for name, values in found.items()}
