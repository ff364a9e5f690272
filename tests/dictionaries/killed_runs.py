"""A program that trains two dictionaries side by side while it is killed again and again; run by `test_resume.py`.

One process imports torch and makes a child for each life; a child goes on where the one before it was killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from memory_store import MemoryStore, frames_of

from otoscope.dictionaries import Settings, TopK, TrainingRun, train_many
from otoscope.dictionaries.formats import saelens
from otoscope.dictionaries.training import checkpoint, runs

SETTINGS = Settings(steps=300, batch_size=128, lr=2e-3, checkpoint_every=3, log_every=1)
RANDOM_KILLS, STEPS_OF_A_LIFE = 14, 15


def make(store: MemoryStore, folder: Path, report: Callable[[str, int, int], None] | bool = False) -> None:
    runs = [
        TrainingRun(TopK(60, k=2, dead_after_frames=1500, k_start=5), to=folder / "one"),
        TrainingRun(TopK(40, k=3, dead_after_frames=900), seed=5, to=folder / "two"),
    ]
    train_many(store, runs, settings=SETTINGS, progress=report)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_before_the_new_file_is_whole() -> None:
    def half_written(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(os.urandom(1000))
        die()

    checkpoint.save_file = half_written


def die_when_a_file_is_moved(after: bool, call: int) -> Callable[[], None]:
    def prepare() -> None:
        calls = 0

        def move(source: Path, target: Path, move: Callable[..., None] = os.replace) -> None:
            nonlocal calls
            calls += 1
            if calls == call and not after:
                die()
            move(source, target)
            if calls == call:
                die()

        os.replace = move

    return prepare


def die_when_the_dictionary_is_saved(after: bool) -> Callable[[], None]:
    def prepare() -> None:
        save = runs.save_dictionary

        def last_act(*arguments: object) -> None:
            if after:
                save(*arguments)
            die()

        runs.save_dictionary = last_act

    return prepare


def die_in_the_middle_of_saving() -> None:
    def half_written(tensors: object, path: Path) -> None:
        path.write_bytes(os.urandom(1000))
        die()

    saelens.save_file = half_written


AT_THE_END = [
    die_when_the_dictionary_is_saved(after=False),
    die_in_the_middle_of_saving,
    die_when_the_dictionary_is_saved(after=True),
]
IN_WRITING = [
    die_before_the_new_file_is_whole,
    die_when_a_file_is_moved(after=False, call=1),
    die_when_a_file_is_moved(after=True, call=1),
    die_when_a_file_is_moved(after=False, call=4),
    die_when_a_file_is_moved(after=True, call=3),
    die_when_a_file_is_moved(after=True, call=2),
]
"""From the second checkpoint on, each writes two names: the last becomes the one before, the new one the last."""


def live(store: MemoryStore, folder: Path, prepare: Callable[[], None] | None, steps: int, spin: int) -> int:
    """Train in a child, kill it about `steps` steps later or where `prepare` says; return where it began."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        if prepare is not None:
            prepare()
        make(store, folder, lambda stage, done, total: os.write(writing, done.to_bytes(4, "big")) and None)
        os._exit(0)
    os.close(writing)
    first = int.from_bytes(os.read(reading, 4), "big")
    if prepare is None:
        for _ in range(steps):
            os.read(reading, 4)
        for _ in range(spin):  # somewhere within a step or within the writing of a checkpoint
            pass
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(reading)
    assert os.WIFSIGNALED(status), "the run ended before it was killed"
    assert os.WTERMSIG(status) == signal.SIGKILL
    return first


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    draw = random.Random(int(sys.argv[2]))
    store = MemoryStore(frames_of(3000, d=12, n=16, k=2, seed=1)[0])
    make(store, folder / "whole")
    moments: list[Callable[[], None] | None] = [None] * RANDOM_KILLS + IN_WRITING
    draw.shuffle(moments)
    began = [
        live(store, folder / "cut", moment, draw.randrange(1, STEPS_OF_A_LIFE), draw.randrange(200_000))
        for moment in [*moments, *AT_THE_END]
    ]
    left = len(list((folder / "cut").glob(".*.training/.*.part")))
    make(store, folder / "cut")
    print(json.dumps({"began": began, "left": left}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
