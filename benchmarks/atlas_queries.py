"""One fresh process of `atlas_search.py`: run one kind of query over a list of features or regions and print its times.

    python benchmarks/atlas_queries.py FOLDER QUERY [--cpu] < JSON

Reads `{"features": […], "regions": [[clip id, start_s, end_s], …]}`, prints `{"ms": […], "start_ms": …, "mb": …,
"own_mb": …}`: every query in order, from the first after opening. Nothing is warmed up: blocks are checked when a query
first touches them. `--cpu` counts the process's CPU time, for busy machines.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()

from otoscope.atlas import Atlas  # noqa: E402  (importing is part of what is measured)

TOP_CLIPS = 20
REGION_S = 0.5


def record(atlas: Atlas, feature: int) -> Any:
    """Everything on a feature's page: figures, labels, bands, acoustics, histogram, profile, partners, examples."""
    entry = atlas[feature]
    return (
        entry.stats, entry.sentence, entry.label_rows, entry.bands, entry.acoustics, entry.histogram, entry.profile,
        entry.cofiring(10), entry.examples("top", 20), entry.examples("decile", 30), entry.examples("random", 20),
    )  # fmt: skip


def top_clips(atlas: Atlas, feature: int) -> Any:
    """The strongest clips with the value in every frame, and the maxima of all clips."""
    import numpy as np

    entry = atlas[feature]
    peaks = entry.peaks()
    best = np.argsort(-peaks.values, kind="stable")[:TOP_CLIPS]
    return entry.traces(peaks.clips[best].tolist()), entry.maxima()


def value_range(atlas: Atlas, feature: int) -> Any:
    """The moments at which a feature lies between 30 and 60 % of its maximum, strongest first."""
    top = atlas[feature].figure("max")
    return atlas.frames_in_range(feature, 0.3 * top, 0.6 * top, limit=100)


def combination(atlas: Atlas, feature: int) -> Any:
    """The moments at which one feature fires and another does not."""
    return atlas.frames_where(f"{feature} and not {(feature * 7 + 1) % len(atlas)}", limit=100)


def facets(atlas: Atlas, feature: int) -> Any:
    """All features: filters on three columns and the kind, sorted, counted by kind and label."""
    from otoscope.atlas.search.facets import Filters

    low = 1e-6 * (1 + feature % 10)
    ranges = {"density": (low, 1e-2), "f1": (0.1, None), "max": (1.0 + feature % 3 / 10, None)}
    return atlas.select(Filters(kind="word", ranges=ranges), limit=50)


def by_sound(atlas: Atlas, region: tuple[str, float, float]) -> Any:
    """The features that fire in half a second more than elsewhere, and the most similar moments."""
    found = atlas.region(*region)
    return found.features(top=50), found.similar(top=20)


QUERIES: dict[str, Callable[[Atlas, Any], Any]] = {
    "record": record,
    "top_clips": top_clips,
    "range": value_range,
    "combination": combination,
    "facets": facets,
    "sound": by_sound,
}


def memory_mb(name: str) -> float:
    """One line of /proc/self/status, in MB; NaN where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), float("nan"))


def main() -> None:
    """Open an atlas, run the queries asked for and print their times."""
    atlas = Atlas.open(sys.argv[1])
    start_ms, start_mb = 1000 * (time.perf_counter() - STARTED), memory_mb("VmRSS")
    times = []
    if sys.argv[2] != "open":
        asked = json.load(sys.stdin)
        query, clock = QUERIES[sys.argv[2]], time.process_time if "--cpu" in sys.argv else time.perf_counter
        for each in asked["regions"] if sys.argv[2] == "sound" else asked["features"]:
            begun = clock()
            query(atlas, each)
            times.append(1000 * (clock() - begun))
    print(json.dumps({"ms": times, "start_ms": start_ms, "mb": start_mb, "own_mb": memory_mb("RssAnon")}))


if __name__ == "__main__":
    main()
