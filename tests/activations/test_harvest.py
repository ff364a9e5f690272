"""A harvest holds exactly what the model computes, survives being killed, and refuses what it cannot hold."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from otoscope.activations import ActivationStore, harvest
from otoscope.audio import Corpus
from otoscope.errors import InputError, OtoscopeError
from otoscope.models import SpeechModel

SITES = ["encoder.1.resid_post", "encoder.3.mlp.post"]
SHARD_FRAMES = 150


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the harvest may depend on it."""


def killer(after: int) -> object:
    def report(stage: str, done: int, total: int) -> None:
        if done >= after:
            raise Killed

    return report


def run(model: SpeechModel, corpus: Corpus, folder: Path, **options: object) -> ActivationStore:
    settings = {"shard_frames": SHARD_FRAMES, "progress": False, **options}
    return harvest(model, corpus, SITES, folder, **settings)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def finished(pocket: SpeechModel, tones: Corpus, tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return run(pocket, tones, tmp_path_factory.mktemp("stores") / "whole")


def test_a_store_holds_what_the_model_computes_for_every_valid_frame(
    finished: ActivationStore, pocket: SpeechModel, tones: Corpus
) -> None:
    assert list(finished.clips) == [clip.clip_id for clip in tones]
    for clip in tones:
        computed = pocket.run(clip, read=SITES)
        assert finished.clips[clip.clip_id][1] == pocket.frames(clip) == int(np.ceil(len(clip.samples()) / 320))
        for site in SITES:
            stored = finished.clip(site, clip.clip_id)
            np.testing.assert_allclose(stored, computed[site].numpy(), rtol=2e-3, atol=2e-3)


def test_sites_are_stored_under_their_canonical_names(pocket: SpeechModel, tones: Corpus, tmp_path: Path) -> None:
    store = harvest(pocket, tones[:2], ["encoder.blocks.1", "encoder.1.resid_post"], tmp_path / "s", progress=False)
    assert store.sites == ("encoder.1.resid_post",)


def test_long_clips_are_stored_whole(finished: ActivationStore) -> None:
    assert finished.clips["tone-5"][1] == 400  # 8 s through a 6-s window


@pytest.fixture(scope="module", params=["float16", "bfloat16"])
def left_alone(
    request: pytest.FixtureRequest, pocket: SpeechModel, tones: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A type of number, and a store of it whose harvest nothing stopped."""
    folder = tmp_path_factory.mktemp("stores") / "whole"
    run(pocket, tones, folder, dtype=request.param)
    return request.param, folder


@pytest.mark.parametrize("kill_after", [1, 5, 9, 11])
def test_a_killed_harvest_resumes_to_the_same_bytes(
    pocket: SpeechModel, tones: Corpus, tmp_path: Path, kill_after: int, left_alone: tuple[str, Path]
) -> None:
    dtype, whole = left_alone
    killed = tmp_path / "killed"
    with pytest.raises(Killed):
        run(pocket, tones, killed, dtype=dtype, progress=killer(kill_after))
    assert not (killed / "meta.json").exists()
    with pytest.raises(OtoscopeError, match="not finished"):
        ActivationStore.open(killed)
    run(pocket, tones, killed, dtype=dtype)
    assert contents(killed) == contents(whole)


def test_sigkill_at_any_time_is_survived(
    pocket: SpeechModel, tones: Corpus, finished: ActivationStore, tmp_path: Path
) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from otoscope.activations import harvest
from otoscope.audio import Corpus
from otoscope.models import load_model

def report(stage, done, total):
    if done >= 9:
        os.kill(os.getpid(), signal.SIGKILL)

model, corpus, folder, *sites = sys.argv[1:]
harvest(load_model(model), Corpus.load(corpus), sites, folder, shard_frames=150, progress=report)
"""
    saved = tones.save(tmp_path / "tones")
    command = [sys.executable, "-c", program, str(pocket.folder), str(tmp_path / "tones"), str(tmp_path / "s"), *SITES]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    resumed = run(pocket, saved, tmp_path / "s")
    for site in SITES:
        np.testing.assert_array_equal(resumed.read(site), finished.read(site))
    resumed.verify()


def test_resuming_does_not_compute_finished_shards_again(pocket: SpeechModel, tones: Corpus, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(pocket, tones, tmp_path / "s", progress=killer(9))
    reports: list[int] = []
    run(pocket, tones, tmp_path / "s", progress=lambda stage, done, total: reports.append(done))
    assert reports[0] >= 5
    assert reports[-1] == len(tones)


def damages() -> list[object]:
    def torn_journal(folder: Path) -> None:
        journal = folder / "journal.jsonl"
        journal.write_bytes(journal.read_bytes()[:-40])

    def garbage_behind_the_journal(folder: Path) -> None:
        with open(folder / "journal.jsonl", "ab") as file:
            file.write(b'{"clips": [["tone-')

    def part_files(folder: Path) -> None:
        (folder / SITES[0] / ".00001.safetensors.abc.part").write_bytes(b"half")
        (folder / SITES[0] / "00099.safetensors").write_bytes(b"unknown")
        (folder / ".meta.json.abc.part").write_bytes(b"{")

    def cut_shard(folder: Path) -> None:
        shard = folder / SITES[1] / "00000.safetensors"
        shard.write_bytes(shard.read_bytes()[:-7])

    def lost_shard(folder: Path) -> None:
        (folder / SITES[0] / "00000.safetensors").unlink()

    all_damages = (torn_journal, garbage_behind_the_journal, part_files, cut_shard, lost_shard)
    return [pytest.param(damage, id=damage.__name__) for damage in all_damages]


@pytest.mark.parametrize("damage", damages())
def test_whatever_a_crash_left_is_repaired(
    pocket: SpeechModel, tones: Corpus, finished: ActivationStore, tmp_path: Path, damage: object
) -> None:
    with pytest.raises(Killed):
        run(pocket, tones, tmp_path / "s", progress=killer(11))
    damage(tmp_path / "s")  # type: ignore[operator]
    run(pocket, tones, tmp_path / "s")
    assert contents(tmp_path / "s") == contents(finished.folder)


def test_a_finished_store_is_returned_without_work(pocket: SpeechModel, tones: Corpus, tmp_path: Path) -> None:
    run(pocket, tones, tmp_path / "s")

    def refuse(stage: str, done: int, total: int) -> None:
        raise AssertionError("a finished harvest was run again")

    assert len(run(pocket, tones, tmp_path / "s", progress=refuse).clips) == len(tones)


def test_the_order_of_sites_makes_no_other_job(pocket: SpeechModel, tones: Corpus, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(pocket, tones, tmp_path / "s", progress=killer(9))
    for _ in ("unfinished", "finished"):
        store = harvest(pocket, tones, SITES[::-1], tmp_path / "s", progress=False)
        assert store.sites == tuple(SITES)


def test_labels_may_change_without_a_new_harvest(pocket: SpeechModel, tones: Corpus, tmp_path: Path) -> None:
    store = run(pocket, tones, tmp_path / "s")
    renamed = Corpus("tones", [dataclasses.replace(clip, speaker="a") for clip in tones])
    assert run(pocket, renamed, tmp_path / "s").fingerprint == store.fingerprint


def test_another_job_in_the_same_folder_is_refused(pocket: SpeechModel, tones: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with pytest.raises(Killed):
        run(pocket, tones, folder, progress=killer(9))
    for unfinished in (True, False):
        with pytest.raises(InputError, match="another corpus"):
            run(pocket, tones[:5], folder)
        with pytest.raises(InputError, match="another choice of sites"):
            harvest(pocket, tones, SITES[:1], folder, progress=False)
        with pytest.raises(InputError, match="another dtype"):
            run(pocket, tones, folder, dtype="bfloat16")
        with pytest.raises(InputError, match="another model"):
            run(pocket.random_weights(1), tones, folder)
        if unfinished:
            run(pocket, tones, folder)


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ("encoder.1.attn.pattern", "map of frames by frames"),
        ("encoder.1.attn.scores[0]", "map of frames by frames"),
        ("mel", "100 frames per second"),
        ("encoder.1.resid_pots", "encoder.1.resid_post"),
    ],
)
def test_sites_that_are_no_frames_are_refused_before_any_work(
    pocket: SpeechModel, tones: Corpus, tmp_path: Path, site: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        harvest(pocket, tones, [site], tmp_path / "s", progress=False)
    assert not (tmp_path / "s").exists()


def test_a_folder_of_something_else_is_left_alone(pocket: SpeechModel, tones: Corpus, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("three years of work")
    with pytest.raises(InputError, match="holds no harvest"):
        run(pocket, tones, tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"three years of work"}


def test_values_beyond_float16_are_refused_with_advice(
    pocket: SpeechModel, tones: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = SpeechModel.encode

    def loud(self: SpeechModel, *args: object, **options: object) -> dict[str, torch.Tensor]:
        return {site: value * 1e6 for site, value in encode(self, *args, **options).items()}  # type: ignore[arg-type]

    monkeypatch.setattr(SpeechModel, "encode", loud)
    with pytest.raises(InputError, match=r"beyond what float16 can hold.*bfloat16"):
        run(pocket, tones, tmp_path / "s", shard_frames=10**6)
    assert np.isfinite(run(pocket, tones, tmp_path / "s", dtype="bfloat16", shard_frames=10**6).read(SITES[0])).all()


def test_a_full_disk_is_one_sentence_and_the_harvest_goes_on_later(
    pocket: SpeechModel, tones: Corpus, finished: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, calls = os.fsync, iter(range(100))

    def full(handle: int) -> None:
        if next(calls) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OtoscopeError, match=r"The disk is full.*run the same command again"):
            run(pocket, tones, tmp_path / "s")
    run(pocket, tones, tmp_path / "s")
    assert contents(tmp_path / "s") == contents(finished.folder)


def test_a_clip_that_cannot_be_read_stops_the_harvest_and_is_named(
    pocket: SpeechModel, tones: Corpus, tmp_path: Path
) -> None:
    lost = dataclasses.replace(tones[0], clip_id="lost", source=tmp_path / "lost.wav", sha256="0")
    with pytest.raises(InputError, match=r"lost\.wav does not exist"):
        run(pocket, Corpus("broken", [*tones, lost]), tmp_path / "s")


def test_meta_says_where_the_activations_come_from(
    finished: ActivationStore, pocket: SpeechModel, tones: Corpus
) -> None:
    meta = json.loads((finished.folder / "meta.json").read_text())
    assert meta["format"] == "otoscope-activations"
    assert meta["weights_hash"] == pocket.weights_hash
    assert meta["corpus_fingerprint"] == tones.fingerprint
    assert meta["n_frames"] == sum(pocket.frames(clip) for clip in tones)
