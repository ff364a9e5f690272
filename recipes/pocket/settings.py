"""The numbers of the recipe in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where things are and how much of everything; `scale` below 1 makes a quick trial."""

    shared: Path  # holds data/digits/fsdd and data/sounds
    build: Path  # working files, safe to delete
    assets: Path  # where pocket/ and mini/ are written
    seed: int = 7
    n_shards: int = 20  # of synthetic speech
    utterances_per_shard: int = 3000
    steps: int = 8000
    batch: int = 32
    learning_rate: float = 2e-3
    warmup: int = 300
    phone_aid_share: float = 0.35  # share of training over which the phone classifier's weight falls to 0
    held_out_speaker: str = "jackson"  # chosen before any result was seen
    n_heldout_english: int = 1500
    n_heldout_spanish: int = 60
    device: str = "auto"
    threads: int = 1


WINDOW_FRAMES = 600  # mel frames of 10 ms: a 6-s window
MAX_TOKENS = 64
