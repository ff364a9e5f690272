"""Search a million features and a hundred million entries; DuckDB and a linear scan beside it.

    python benchmarks/atlas_search.py [--make] [--work FOLDER] [--quick] [--cpu]

Makes the atlases that are missing from the work folder (`generated_atlas.py`; about 12 GB with everything beside them,
`--make` does only that), then runs every kind of query in a fresh process each (`atlas_queries.py`) and writes
`results/atlas_search.md`. `--quick`: a hundredth of the size, fewer queries, nothing written. `--cpu`: CPU time
instead of wall time, for a look at a busy machine; nothing written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from atlas_peers import QUERIES as SQL
from atlas_peers import Duck, scan, scan_files, timed
from generated_atlas import Size, make
from whisper_tiny import processor

from otoscope.atlas import Atlas

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "atlas_search.md"
N_COLD = 50
"""Queries of a fresh process that are reported by themselves…"""
N_FRESH = 5
"""…over so many processes, each asked for something else."""
ASKED = {"record": 1000, "top_clips": 1000, "range": 1000, "combination": 500, "facets": 200, "sound": 500}
TITLES = {
    "record": "feature page: figures, labels, bands, histogram, profile, partners, 70 examples",
    "top_clips": "20 strongest clips with every frame's value, maxima of all clips",
    "range": "frames with values in a range: counts, 100 strongest moments",
    "combination": "`A and not B`: counts, 100 best moments",
    "facets": "all features: 3 filters, kind, sort, counts by kind and label",
    "sound": "by sound: features with lift, 20 most similar moments",
}
SCANNED = (100, 1000, 10_000)
"""Corpora of so many 10-s clips, for what grows with them…"""
MAX_SCANNED = 1000
"""…and how many of them are also scanned."""


def samples(atlas: Atlas, number: int) -> dict[str, list[int]]:
    """Features to ask for: each as likely as any other, and each as likely as it has entries."""
    rng = np.random.default_rng(0)
    active = atlas.column("n_active")
    return {
        "any": rng.integers(0, len(atlas), number).tolist(),
        "by entries": rng.choice(len(atlas), number, p=active / active.sum()).tolist(),
    }


def regions(atlas: Atlas, number: int) -> list[tuple[str, float, float]]:
    """Half seconds from anywhere in the corpus."""
    rng = np.random.default_rng(1)
    found = []
    for clip in rng.integers(0, len(atlas.clips), number).tolist():
        first, stop = atlas.clips.span(clip)
        start_s = 0.02 * int(rng.integers(0, max(1, stop - first - 25)))
        found.append((atlas.clips.ids[clip], start_s, start_s + 0.5))
    return found


def fresh(folder: Path, query: str, asked: dict[str, Any], cpu: bool = False) -> dict[str, Any]:
    """Run one kind of query in a process of its own; return what it printed, and the process's wall time."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["OMP_NUM_THREADS"] = "1"
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(HERE / "atlas_queries.py"), str(folder), query, *["--cpu"] * cpu],
        input=json.dumps(asked), capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    return {**json.loads(done.stdout), "wall_ms": 1000 * (time.perf_counter() - begun)}


def spread(times: list[float]) -> str:
    """p50, p99 and maximum as cells of a table."""
    if not times:
        return "– | – | –"
    return " | ".join(f"{value:,.2f}" for value in (*np.quantile(times, (0.5, 0.99)), max(times)))


def into_page_cache(*places: Path) -> None:
    """Read files once, so that the system has them in memory: what is measured is the program, not the disk."""
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                with open(path, "rb") as file:
                    while file.read(1 << 24):
                        pass


def queries(folder: Path, atlas: Atlas, scale: float, cpu: bool) -> list[str]:
    """The table of our own queries."""
    into_page_cache(folder)
    lines = [
        f"| query | features | first {N_COLD} of a process: p50 | p99 | max | later: p50 | p99 | max |",
        "|---|---|---|---|---|---|---|---|",
    ]
    own = []
    for name, full in ASKED.items():
        number = max(2 * N_COLD, int(full * scale))
        for how, features in samples(atlas, number).items():
            if name in ("sound", "facets") and how != "any":
                continue
            asked = {"features": features, "regions": regions(atlas, number)}
            found = fresh(folder, name, asked, cpu)
            first, later = list(found["ms"][:N_COLD]), list(found["ms"][N_COLD:])
            for turn in range(1, N_FRESH):
                part = {key: (2 * each)[turn * N_COLD % number :][:N_COLD] for key, each in asked.items()}
                first += fresh(folder, name, part, cpu)["ms"]
            how = "–" if name in ("sound", "facets") else how
            lines.append(f"| {TITLES[name]} | {how} | {spread(first)} | {spread(later)} |")
            own.append(float(found["own_mb"]))
            print(lines[-1], flush=True)
    lines += ["", f"Memory of these processes that is not mapped from the atlas: {max(own):.0f} MB at most."]
    return lines


def opening(folder: Path) -> list[str]:
    """How long a process takes that only opens the atlas, and what it then holds."""
    rounds = [fresh(folder, "open", {}) for _ in range(8)][1:]
    wall, start, mb = (
        statistics.median(float(each[name]) for each in rounds) for name in ("wall_ms", "start_ms", "mb")
    )
    return [
        f"A process that imports the package and opens the atlas takes {wall:,.0f} ms from its start to its end",
        f"(import and opening: {start:,.0f} ms) and holds {mb:,.0f} MB; medians of 7.",
    ]


def duck(atlas: Atlas, work: Path, name: str, scale: float, cpu: bool) -> list[str]:
    """The table of the same queries in DuckDB."""
    database = Duck(atlas, work / f"{name}.duckdb")
    into_page_cache(work / f"{name}.duckdb")
    lines = [
        f"Its file has {database.bytes / 1e9:.2f} GB.",
        "",
        "| query | features | p50 | p99 | max |",
        "|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(2)
    for query in SQL:
        number = max(20, int((200 if query != "facets" else 50) * scale))
        asked = samples(atlas, number)
        if query == "sound":
            asked = {"–": rng.integers(0, atlas.meta["n_frames"] - 25, number).tolist()}
        elif query == "facets":
            asked = {"–": asked["any"]}
        for how, numbers in asked.items():
            times = timed(lambda feature, query=query: database.ask(query, feature), numbers, cpu)
            lines.append(f"| {TITLES[query]} | {how} | {spread(times)} |")
            print(lines[-1], flush=True)
    return lines


def scans(work: Path, scale: float, cpu: bool) -> list[str]:
    """How the time for the strongest clips grows with the corpus, ours and by scanning."""
    kinds = {"dense": "dense, 1,536 neurons", "stepwise": "TopK, frame by frame", "topk": "TopK, clip by clip"}
    lines = [
        f"| 10-s clips | {' | '.join(f'scan: {kind}, ms' for kind in kinds.values())} | atlas: p50 ms | p99 ms "
        "| scan / atlas |",
        "|---|---|---|---|---|---|---|",
    ]
    for full in SCANNED:
        n_clips = max(10, int(full * scale))
        folder = make(Size(6144, n_clips=n_clips, clip_frames=500, n_sounds=100), work)
        into_page_cache(folder)
        features = samples(Atlas.open(folder), 300)["by entries"]
        times = list(fresh(folder, "top_clips", {"features": features}, cpu)["ms"])
        p50, p99 = np.quantile(times, (0.5, 0.99))
        found = {}
        if full <= MAX_SCANNED:
            for kind, paths in scan_files(work, n_clips).items():
                ask = partial(scan, paths, stepwise=kind == "stepwise")
                found[kind] = statistics.median(timed(ask, [1, 2, 3], cpu))
        cells = [f"{found[kind]:,.0f}" if found else "–" for kind in kinds]
        ratios = ", ".join(f"{found[kind] / p50:,.0f}" for kind in kinds) if found else "–"
        lines.append(f"| {n_clips:,} | {' | '.join(cells)} | {p50:.2f} | {p99:.2f} | {ratios} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Make what is missing, measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", action="store_true", help="only make the atlases")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "otoscope-atlas-search")
    parser.add_argument("--cpu", action="store_true", help="CPU time, not wall time; leave the written table alone")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the size; leave the written table alone")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    scale = 0.01 if options.quick else 1.0
    size = Size(int(1_000_000 * scale), n_entries=int(100_000_000 * scale), n_sounds=50 if options.quick else 2000)
    begun = time.perf_counter()
    folder = make(size, options.work)
    made_s, peak_gb = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if made_s > 1:
        print(f"made in {made_s:.0f} s with at most {peak_gb:.1f} GB of memory")
    if options.make:
        return
    atlas = Atlas.open(folder)
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{os.cpu_count()} cores of {processor()}, Python {platform.python_version()}, NumPy {np.__version__}; ms.",
        f"A generated atlas of {len(atlas):,} features and {len(atlas.postings):,} entries over {len(atlas.clips):,}",
        f"clips ({atlas.meta['n_frames']:,} frames), {n_bytes / 1e9:.2f} GB on disk. Its files are in the page cache;",
        f"every row is {N_FRESH} fresh processes, of which the first goes on to the later queries; what a process",
        "touches first is checked against the checksums of its blocks.",
        "",
        *opening(folder),
        "",
        *queries(folder, atlas, scale, options.cpu),
        "",
        "## DuckDB, native table, warm",
        "",
        *duck(atlas, options.work, folder.name, scale, options.cpu),
        "",
        "## The strongest clips, by the size of the corpus",
        "",
        *scans(options.work, scale, options.cpu),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if not (options.quick or options.cpu):
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
