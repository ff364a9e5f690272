"""Make the pocket model: `python -m recipes.pocket` (see README.md)."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from . import evaluate, export, minicorpus, synthesise, train
from .settings import Settings

STAGES = {
    "synthesise": synthesise.run,
    "mini": minicorpus.run,
    "train": train.run,
    "export": export.run,
    "evaluate": evaluate.run,
}


def main() -> None:
    """Run the stages in order, or those named; finished work is kept, so the same command resumes."""
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(prog="python -m recipes.pocket", description=main.__doc__)
    parser.add_argument("stages", nargs="*", help=f"of {', '.join(STAGES)}; all when none is named")
    parser.add_argument(
        "--shared", type=Path, default=root.parent / "shared", help="folder with data/digits, data/sounds"
    )
    parser.add_argument("--build", type=Path, default=root / "build/pocket", help="working files")
    parser.add_argument("--assets", type=Path, default=root / "src/otoscope/assets", help="where the results go")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--threads", type=int, default=Settings.threads, help="torch threads")
    parser.add_argument("--device", default=Settings.device, help="auto, cpu or cuda")
    options = vars(parser.parse_args())
    stages = options.pop("stages") or list(STAGES)
    unknown = [s for s in stages if s not in STAGES]
    if unknown:
        parser.error(f"no stage {unknown[0]!r}; there are {', '.join(STAGES)}")
    settings = Settings(**options)
    settings.build.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings.threads)
    for stage in stages:
        STAGES[stage](settings)
