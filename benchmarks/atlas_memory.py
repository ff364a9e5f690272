"""What building an atlas holds in memory, for `atlas_build.py`: sampled by stage, in two sorts.

Anonymous memory is what the process made; pages of mapped files are copies of what lies on disk, which the system takes
back when it needs room.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
import threading
from pathlib import Path

from whisper_tiny import peak_mb

SORTS = {"anonymous": "RssAnon", "files": "RssFile"}
"""Sorts of memory, as `/proc/self/status` calls them."""


class Watch:
    """Samples what this process holds, a hundred times a second: the most of each sort in MB, by stage."""

    def __init__(self) -> None:
        self.most: dict[str, dict[str, float]] = {}
        self.stage = "before"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Note what is held now."""
        status = Path("/proc/self/status").read_text()
        seen = self.most.setdefault(self.stage, dict.fromkeys(SORTS, 0.0))
        for sort, key in SORTS.items():
            seen[sort] = max(seen[sort], int(re.findall(rf"{key}:\s*(\d+)", status)[0]) / 1024)

    def _run(self) -> None:
        while not self._done.wait(0.01):
            self.look()


def memory(what: str, n_clips: int, folder: Path) -> dict[str, float]:
    """Peak memory of building over `n_clips` short clips, or of only opening their corpus: `sort, stage` in MB."""
    import otoscope as oto
    from otoscope.atlas import build_atlases
    from otoscope.dictionaries import Neurons, RandomBasis

    with Watch() as watch:
        watch.stage = "opening"
        corpus = oto.corpus(folder / f"short-{n_clips}")
        if what == "build":
            watch.stage = "model"
            model = oto.load_model("pocket")
            sparse = RandomBasis("encoder.0.resid_post", 128, 1024, seed=0, k=16, name="sparse")
            both = [sparse, Neurons("encoder.0.mlp.post", 512, name="neurons")]

            def report(stage: str, done: int, total: int) -> None:
                watch.stage = stage

            with tempfile.TemporaryDirectory() as to:
                build_atlases(model, both, corpus, [Path(to) / "a", Path(to) / "b"], progress=report)
    held = {f"{sort}, {stage}": mb for stage, seen in watch.most.items() for sort, mb in seen.items()}
    return held | {sort: max(seen[sort] for seen in watch.most.values()) for sort in SORTS} | {"high": peak_mb()}


def short_corpus(n_clips: int, folder: Path) -> None:
    """Save a corpus of `n_clips`: the bundled clips again and again under new ids, or as many of them, evenly spaced,
    so that a short corpus has sounds and all voices too."""
    import otoscope as oto
    from otoscope.audio import Corpus

    mini = oto.corpus("mini")
    step = max(1.0, len(mini) / n_clips)
    chosen = (mini[int(i * step) % len(mini)] for i in range(n_clips))
    clips = [dataclasses.replace(clip, clip_id=f"c{i:06d}") for i, clip in enumerate(chosen)]
    Corpus("short", clips).save(folder / f"short-{n_clips}")


def memory_table(held: dict[tuple[str, int], dict[str, float]]) -> str:
    """Return the Markdown table of memory, from what `memory` found for (what, number of clips)."""
    sizes = sorted({size for _, size in held})
    lines = [
        f"| peak memory, MB: anonymous + pages of files | {' | '.join(f'{size:,} clips' for size in sizes)} |",
        "|---|" + "---|" * len(sizes),
    ]

    def row(name: str, what: str, stage: str = "") -> None:
        cells = [[held[what, size].get(f"{sort}{stage}", 0.0) for sort in ("anonymous", "files")] for size in sizes]
        lines.append(f"| {name} | " + " | ".join(f"{own:.0f} + {files:.0f}" for own, files in cells) + " |")

    row("only opening the corpus", "corpus")
    for stage in ("find floors", "encode", "index and label"):
        row(f"building two atlases: “{stage}”", "build", f", {stage}")
    row("building two atlases: the most of each", "build")
    high = " | ".join(f"{held['build', size]['high']:.0f}" for size in sizes)
    beyond = (held["build", size]["anonymous"] - held["corpus", size]["anonymous"] for size in sizes)
    lines.append(f"| building two atlases: the most of both at a time | {high} |")
    lines.append("| anonymous, beyond opening the corpus | " + " | ".join(f"{mb:.0f}" for mb in beyond) + " |")
    return "\n".join(lines) + "\n"
