"""Builds atlases in processes that are killed at chosen moments; run by `test_atlas_building`.

`python killed_builds.py FOLDER STEP`: two atlases at once over a small planted corpus; a process is killed (SIGKILL)
at every STEP-th time that it is about to open, rename, link or remove a file. After each, a second process finishes.
Prints how many moments there were and those after which the folders differed from a build that was left alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from planted_world import SITE, World, plant

from otoscope.atlas import build_atlases
from otoscope.atlas.building import code_pass
from otoscope.dictionaries import RandomBasis

MOMENTS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


def build(world: World, folder: Path) -> None:
    """Build both atlases: one of a dense dictionary, one of a sparse."""
    sparse = RandomBasis(SITE, 8, 32, seed=0, k=3, name="sparse")
    to = [folder / "dense", folder / "sparse"]
    build_atlases(world.model, [world.dictionary, sparse], world.corpus, to, n_shifts=2, progress=False)  # type: ignore[arg-type]


def in_child(world: World, folder: Path, kill_at: int = 0) -> int:
    """Build in a child process that kills itself at its `kill_at`-th moment; return how many moments it saw."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        with os.fdopen(read) as pipe:
            seen = pipe.read()
        os.waitpid(pid, 0)
        return int(seen or 0)
    count = 0

    def watch(event: str, args: tuple[object, ...]) -> None:
        nonlocal count
        if event in MOMENTS and str(folder) in str(args):
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        build(world, folder)
        os.write(write, str(count).encode())
    finally:
        os._exit(0)


def contents(folder: Path) -> dict[str, str]:
    """What lies in a folder: digests by path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    """See above."""
    folder, step = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    code_pass.PART_FRAMES = 700
    world = plant(n_speech=10, n_sounds=4)
    alone = folder / "alone"
    build(world, folder / "warm")  # compiles
    n_moments = in_child(world, alone)
    expected = contents(alone)
    differing = []
    for moment in range(1, n_moments + 1, step):
        target = folder / f"killed-{moment}"
        in_child(world, target, moment)
        in_child(world, target)
        if contents(target) != expected:
            differing.append(moment)
        shutil.rmtree(target)
    print(json.dumps({"moments": n_moments, "files": len(expected), "differing": differing}))


if __name__ == "__main__":
    main()
