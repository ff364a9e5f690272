"""Atlases of a few frames, written by the real writers from values that a test makes up."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from otoscope.atlas import Atlas
from otoscope.atlas.building.code_pass import CodeWriter
from otoscope.atlas.building.indexing import PostingsWriter, clip_bounds
from otoscope.atlas.building.statistics import feature_statistics
from otoscope.atlas.building.transposing import transposed
from otoscope.atlas.codes import FrameCode
from otoscope.atlas.format import CLASSES, CLIPS, FEATURES, FORMAT, LABELS, VERSION
from otoscope.evaluation.naming.by_feature import Block
from otoscope.storage.arrays import pack_strings, write_arrays
from otoscope.storage.sealed import seal

FIGURES = ("f1", "ap", "q_value")


@dataclass
class Tiny:
    """Values `[t, n]` of every clip; `scored` gives (feature, kind, label, skill) rows."""

    clips: list[np.ndarray]
    scored: list[tuple[int, str, str, float]] = field(default_factory=list)
    kind: str = "topk"

    @property
    def values(self) -> np.ndarray:
        """`[frames of the corpus, n]`."""
        return np.concatenate(self.clips)

    @property
    def bounds(self) -> np.ndarray:
        return np.cumsum([0, *(len(each) for each in self.clips)])

    def clip_of(self, frame: int) -> int:
        return int(np.searchsorted(self.bounds, frame, side="right")) - 1


@st.composite
def tiny(draw: st.DrawFn, n_features: int = 5) -> Tiny:
    """A few clips of a few frames whose values are often absent and often tie."""
    lengths = draw(st.lists(st.integers(1, 14), min_size=1, max_size=4))
    value = st.sampled_from([0.0, 0.0, 0.0, 0.25, 0.5, 1.0, 1.5, 3.0])
    flat = draw(st.lists(value, min_size=sum(lengths) * n_features, max_size=sum(lengths) * n_features))
    values = np.array(flat, dtype=np.float32).reshape(-1, n_features)
    return Tiny(np.split(values, np.cumsum(lengths)[:-1]))


def write(world: Tiny) -> Atlas:
    """Write an atlas into a temporary folder that goes when the atlas goes."""
    holder = tempfile.TemporaryDirectory()
    folder = Path(holder.name) / "atlas"
    folder.mkdir()
    n = world.clips[0].shape[1]
    writer = CodeWriter(Path(holder.name) / "pass", "tiny", n_features=n, dense=False)
    for clip in world.clips:
        writer.append(code_of(clip), np.zeros((len(clip), 4), np.float32))
    parts = writer.close()
    numbered = [(part["first_frame"], writer.part(number)) for number, part in enumerate(parts)]
    turned = transposed(numbered, writer.folder / "transposed", n)
    bounds = clip_bounds(writer.clip_frames)
    postings, statistics = PostingsWriter(folder, bounds), []
    for block in turned.blocks():
        statistics.append(_statistics(block, bounds))
        postings.append(block)
    posting_parts = postings.close()
    turned.close()
    (writer.folder / "codes").rename(folder / "codes")
    _write_tables(world, folder, {name: np.concatenate([each[name] for each in statistics]) for name in statistics[0]})
    meta = {
        "name": "tiny",
        "dictionary": {"name": "tiny", "kind": world.kind},
        "corpus": {"name": "tiny"},
        "site": "none",
        "n_features": n,
        "n_frames": int(bounds[-1]),
        "n_clips": len(world.clips),
        "frame_s": 0.02,
        "first_frame_s": 0.0,
        "seed": 0,
        "codes": {"parts": parts},
        "postings": {"parts": posting_parts, "n_entries": postings.n_entries},
    }
    seal(folder, meta, format=FORMAT, version=VERSION)
    atlas = Atlas.open(folder)
    atlas.holder = holder
    return atlas


def code_of(values: np.ndarray) -> FrameCode:
    """The code of some frames `[t, n]`."""
    frames, features = np.nonzero(values)
    counts = np.bincount(frames, minlength=len(values))
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return FrameCode(indptr, features.astype(np.uint32), values[frames, features].astype(np.float32))


def _statistics(block: Block, bounds: np.ndarray) -> dict[str, np.ndarray]:
    ranked = np.concatenate(
        [np.zeros(0, np.float32), *(-np.sort(-block.values[a:b]) for a, b in itertools.pairwise(block.indptr))]
    )
    return feature_statistics(block, ranked, bounds[:-1], int(bounds[-1]))


def _write_tables(world: Tiny, folder: Path, columns: dict[str, np.ndarray]) -> None:
    n = len(columns["max"])
    classes = sorted({(kind, label) for _, kind, label, _ in world.scored})
    rows = sorted(world.scored, key=lambda row: (row[0], -row[3]))
    counts = np.bincount([row[0] for row in rows], minlength=n) if rows else np.zeros(n, np.int64)
    number = np.array([classes.index((kind, label)) for _, kind, label, _ in rows], dtype=np.int32)
    skill = np.array([row[3] for row in rows], dtype=np.float32)
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    rank = np.concatenate([np.zeros(0, np.int32), *(np.arange(count, dtype=np.int32) for count in counts)])
    write_arrays(
        folder / LABELS,
        {"indptr": indptr, "class": number, "rank": rank, "skill": skill, **dict.fromkeys(FIGURES, skill)},
    )
    best = np.where(counts > 0, indptr[:-1], -1)
    columns["label"] = np.where(best >= 0, np.append(number, -1)[best], -1).astype(np.int32)
    columns["purity_label"] = np.full(n, -1, np.int32)
    columns["nature"] = np.zeros(n, np.uint8)
    columns["postings_from"] = np.zeros(n, np.float32)
    for name in FIGURES:
        columns[name] = np.where(best >= 0, np.append(skill, np.nan)[best], np.nan).astype(np.float32)
    write_arrays(folder / FEATURES, columns)
    ids = [f"clip-{i}" for i in range(len(world.clips))]
    write_arrays(
        folder / CLIPS,
        {
            **_texts("clip_id", ids),
            **_texts("speaker", ["" for _ in ids]),
            "first_frame": world.bounds[:-1].astype(np.int64),
            "n_frames": np.diff(world.bounds).astype(np.int64),
        },
    )
    write_arrays(
        folder / CLASSES,
        {**_texts("label", [label for _, label in classes]), **_texts("kind", [kind for kind, _ in classes])},
    )


def _texts(name: str, values: list[str]) -> dict[str, np.ndarray]:
    return {f"{name}.{part}": array for part, array in pack_strings(values).items()}
