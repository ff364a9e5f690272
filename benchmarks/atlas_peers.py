"""What `atlas_search.py` compares with: the same questions in a DuckDB table, and a scan of every clip's activations.

DuckDB (2 threads, one connection) holds the entries twice, once in order of features and once in order of frames, as
the atlas does. The scan is FREUD's way: activations of all clips lie in one memory-mapped array, from which every
question loads batches of clips and keeps the best; dense for neurons, values and indices for TopK, where each frame is
asked by itself whether it has the feature ("stepwise"; "topk" asks all frames of a clip at once, which FREUD does not).
What FREUD also does, opening every clip's recording for its length, is left out.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.atlas import Atlas
from otoscope.atlas.format import LABELS

N_TOP, BATCH = 10, 10
PEAKS = "select clip, max(value) as peak, arg_max(frame, value) as frame from postings where feature = $f group by clip"
QUERIES: dict[str, tuple[str, ...]] = {
    "record": (
        "select * from features where feature = $f",
        "select * from labels where feature = $f",
        f"{PEAKS} order by peak desc limit 20",
        "select * from (select *, least(9, floor(value / max(value) over () * 10)) as band from postings "
        "where feature = $f) qualify row_number() over (partition by band order by hash(frame)) <= 3",
        "select * from postings where feature = $f order by hash(frame) limit 20",
    ),
    "top_clips": (
        PEAKS,
        f"select clip, frame, value from postings where feature = $f and clip in "
        f"(select clip from ({PEAKS}) order by peak desc limit 20) order by clip, frame",
    ),
    "range": (
        "with found as (select * from postings where feature = $f and value between "
        "(select 0.3 * max from features where feature = $f) and (select 0.6 * max from features where feature = $f)), "
        "runs as (select *, frame - row_number() over (partition by clip order by frame) as run from found) "
        "select clip, min(frame), max(frame), max(value) as peak, count(*) over () as n from runs "
        "group by clip, run order by peak desc limit 100",
        "select count(*), count(distinct clip) from postings where feature = $f and value between "
        "(select 0.3 * max from features where feature = $f) and (select 0.6 * max from features where feature = $f)",
    ),
    "facets": (
        "select feature from features where density between $f * 1e-12 and 1e-2 and f1 >= 0.1 and max >= 1 and "
        "kind = 'word' and not dead order by f1 desc, feature limit 50",
        "select kind, count(*) from features where density between $f * 1e-12 and 1e-2 and f1 >= 0.1 and max >= 1 and "
        "not dead group by kind",
        "select label, count(*) from features where density between $f * 1e-12 and 1e-2 and f1 >= 0.1 and max >= 1 and "
        "kind = 'word' and not dead group by label",
    ),
    "sound": (
        "select feature, count(*) as k, max(value), k / 25 / any_value(density) as lift from codes "
        "join features using (feature) where frame between $f and $f + 24 group by feature order by lift desc limit 50",
        "with region as (select feature, sum(value) / any_value(max) * ln(any_value(max) / (any_value(mean) * "
        "any_value(density))) as weight from codes join features using (feature) where frame between $f and $f + 24 "
        "and n_active < 16384 group by feature order by weight desc limit 48) "
        "select frame // 6 as block, sum(value * weight) as vote from postings join region using (feature) "
        "group by block order by vote desc limit 96",
    ),
}  # fmt: skip
"""What is asked of DuckDB, `$f` being a feature ("sound": a frame; its last question only votes for windows)."""


class Duck:
    """The entries, features and labels of an atlas in DuckDB's own format."""

    def __init__(self, atlas: Atlas, path: Path) -> None:
        import duckdb

        whole = path.is_file()
        partial = path.with_suffix(".partial")
        if not whole:
            partial.unlink(missing_ok=True)
            connection = duckdb.connect(str(partial))
            _fill(connection, atlas)
            connection.close()
            partial.rename(path)
        self.bytes = path.stat().st_size
        self.connection = duckdb.connect(str(path), read_only=True, config={"threads": 2})

    def ask(self, name: str, number: int) -> Any:
        """Answer one kind of query about a feature (or, by sound, about the half second from a frame on)."""
        return [self.connection.execute(sql, {"f": number}).fetchnumpy() for sql in QUERIES[name]]


def _fill(connection: Any, atlas: Atlas) -> None:
    import pyarrow as pa

    def insert(table: str, columns: dict[str, Any]) -> None:
        part = pa.table(columns)
        connection.register("part", part)
        connection.execute(f"create table if not exists {table} as select * from part limit 0")
        connection.execute(f"insert into {table} select * from part")
        connection.unregister("part")

    named = atlas.column("label")
    labels, kinds = (np.array([*names, None], dtype=object) for names in (atlas.classes.labels, atlas.classes.kinds))
    columns = {name: atlas.column(name) for name in atlas.columns if name != "label"}
    insert("features", {"feature": np.arange(len(atlas)), **columns, "label": labels[named], "kind": kinds[named]})
    file = atlas.sealed.arrays(LABELS)
    rows = {name: file.read(name) for name in file.names if name != "indptr"}
    insert("labels", {"feature": np.repeat(np.arange(len(atlas)), np.diff(file.read("indptr"))), **rows})
    for first, last in _parts(atlas.meta["postings"]["parts"]):
        entries = [atlas.postings[feature] for feature in range(first, last)]
        frames = np.concatenate([each.frames for each in entries])
        insert(
            "postings",
            {
                "feature": np.repeat(np.arange(first, last, dtype=np.uint32), [len(each.frames) for each in entries]),
                "clip": np.searchsorted(atlas.clips.frame_bounds, frames, side="right").astype(np.uint32) - 1,
                "frame": frames,
                "value": np.concatenate([each.values for each in entries]),
            },
        )
    for part in atlas.meta["codes"]["parts"]:
        code = atlas.codes[part["first_frame"] : part["first_frame"] + part["n_frames"]]
        frames = (code.frame_of_entry() + part["first_frame"]).astype(np.uint32)
        insert("codes", {"frame": frames, "feature": code.features, "value": code.values})


def _parts(parts: list[dict[str, int]]) -> list[tuple[int, int]]:
    return [(part["first"], part["last"]) for part in parts]


def scan_files(work: Path, n_clips: int, n_frames: int = 500, d: int = 1536, k: int = 32) -> dict[str, list[Path]]:
    """Write made-up activations of `n_clips`, dense `[clips, frames, d]` and TopK `[clips, frames, k]`, once."""
    rng = np.random.default_rng(0)
    paths = {
        "dense": [work / f"scan-{n_clips}-dense.npy"],
        "topk": [work / f"scan-{n_clips}-values.npy", work / f"scan-{n_clips}-indices.npy"],
    }
    stepwise = {"stepwise": paths["topk"]}
    shapes = {"dense": [(d, np.float32)], "topk": [(k, np.float32), (k, np.int64)]}
    for kind, names in paths.items():
        for path, (width, dtype) in zip(names, shapes[kind], strict=True):
            if path.is_file():
                continue
            partial = path.with_suffix(".partial")
            array = np.lib.format.open_memmap(partial, "w+", dtype=dtype, shape=(n_clips, n_frames, width))
            for clip in range(n_clips):
                noise = rng.random((n_frames, width), dtype=np.float32)
                array[clip] = noise if dtype == np.float32 else (noise * 6144).astype(np.int64)
            array.flush()
            partial.rename(path)
    return {**paths, **stepwise}


def scan(paths: list[Path], feature: int, stepwise: bool) -> Any:
    """Top clips with their traces, and the maximum of every clip, by looking at every clip."""
    import torch

    arrays = [np.load(path, mmap_mode="c") for path in paths]
    clips = [[torch.from_numpy(array[clip]) for array in arrays] for clip in range(len(arrays[0]))]
    best: list[tuple[float, int, Any]] = []
    maxima: list[float] = []
    for values, *indices in torch.utils.data.DataLoader(clips, batch_size=BATCH):
        if not indices:
            traces = values[:, :, feature]
        elif stepwise:
            traces = torch.zeros(values.shape[:2])
            for clip, frames in enumerate(indices[0]):
                for t, at in enumerate(frames):
                    if feature in at:
                        traces[clip, t] = values[clip, t][at == feature].sum()
        else:
            traces = torch.where(indices[0] == feature, values, 0).sum(dim=2)
        for trace in traces:
            peak = float(trace.max())
            if len(best) < N_TOP or peak > best[0][0]:
                (heapq.heappush if len(best) < N_TOP else heapq.heapreplace)(best, (peak, len(maxima), trace.clone()))
            maxima.append(peak)
    return sorted(best, reverse=True), maxima


def timed(ask: Callable[[Any], Any], numbers: list[Any], cpu: bool) -> list[float]:
    """Milliseconds that each question takes, of the clock or of the processors."""
    clock = time.process_time if cpu else time.perf_counter
    times = []
    for number in numbers:
        begun = clock()
        ask(number)
        times.append(1000 * (clock() - begun))
    return times
