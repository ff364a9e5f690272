"""Training finds the dictionary behind the data, folds its scaling away, and survives being killed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from otoscope.activations.shuffle import FrameBatch
from otoscope.dictionaries import TopK, TopKDictionary, load_dictionary, train
from otoscope.dictionaries.architectures.topk import TopKLearner
from otoscope.dictionaries.kernels import dispatch
from otoscope.dictionaries.training.learner import Batch
from otoscope.dictionaries.training.schedule import default_learning_rate, default_steps, learning_rate
from otoscope.errors import InputError, OtoscopeError

QUICK = {"steps": 60, "batch_size": 300, "progress": False}


def fvu(dictionary: TopKDictionary, x: Tensor) -> float:
    error = x - dictionary.decode(dictionary.encode(x))
    return float(error.square().sum() / (x - x.mean(dim=0)).square().sum())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_dictionary_behind_the_data_is_found(trained: TopKDictionary, planted_directions: tuple) -> None:
    store, directions = planted_directions
    found = (directions @ trained.decoder.T).max(dim=1).values
    assert float(found.min()) > 0.95
    assert fvu(trained, store.frames) < 0.05
    untrained = train(store, TopK(64, k=3), steps=1, batch_size=64, progress=False)
    assert fvu(untrained, store.frames) > 0.3


def test_scaling_and_centring_are_folded_so_that_it_takes_raw_activations(store) -> None:
    spec, seen = TopK(32, k=3), store.frames[:200]
    once = train(store, spec, **QUICK)
    shifted = type(store)(store.frames * 40 - 100)
    other = train(shifted, spec, **QUICK)
    original, moved = once.encode(seen), other.encode(seen * 40 - 100)
    same = (original.indices == moved.indices).float().mean()
    assert float(same) > 0.99
    assert torch.allclose(moved.values, 40 * original.values, rtol=1e-2, atol=0.5)
    assert torch.allclose(other.decode(moved), once.decode(original) * 40 - 100, rtol=1e-2, atol=2)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(store, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(store, TopK(32, k=3), to=tmp_path / name / "sae", seed=seed, **QUICK)
    assert files(tmp_path / "a" / "sae") == files(tmp_path / "b" / "sae")
    assert files(tmp_path / "a" / "sae") != files(tmp_path / "c" / "sae")


@pytest.mark.parametrize("stop_at", [1, 17, 58])
def test_a_killed_run_resumes_and_ends_with_the_same_bytes(store, tmp_path: Path, stop_at: int) -> None:
    spec = TopK(200, k=2, dead_after_frames=3000, k_start=6)
    whole = train(store, spec, to=tmp_path / "whole" / "sae", **QUICK)
    assert whole.metadata["final_metrics"]["aux"] > 0, "the count of silent frames matters to this run"

    class KilledError(Exception):
        pass

    reported: list[int] = []

    def report(stage: str, done: int, total: int) -> None:
        reported.append(done)
        if done == stop_at and reported.count(done) == 1:
            raise KilledError

    arguments = {**QUICK, "progress": report, "to": tmp_path / "cut" / "sae"}
    with pytest.raises(KilledError):
        train(store, spec, **arguments)
    assert not (tmp_path / "cut" / "sae").exists()
    train(store, spec, **arguments)
    resumed_at = reported[reported.index(stop_at) + 1]
    assert stop_at - 3 <= resumed_at <= stop_at, "the run went on where it was"
    assert files(tmp_path / "cut" / "sae") == files(tmp_path / "whole" / "sae")
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["sae"]


def test_a_half_run_with_other_settings_is_not_continued(store, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, TopK(32, k=3), to=tmp_path / "sae", **{**QUICK, "progress": stop})
    train(store, TopK(32, k=4), to=tmp_path / "sae", **QUICK)
    train(store, TopK(32, k=4), to=tmp_path / "fresh" / "sae", **QUICK)
    assert files(tmp_path / "sae") == files(tmp_path / "fresh" / "sae")


def test_a_finished_run_is_reused_and_another_is_never_overwritten(store, tmp_path: Path) -> None:
    first = train(store, TopK(32, k=3), to=tmp_path / "sae", **QUICK)

    def fail(stage: str, done: int, total: int) -> None:
        raise AssertionError("trained again")

    again = train(store, TopK(32, k=3), to=tmp_path / "sae", **{**QUICK, "progress": fail})
    assert again.fingerprint == first.fingerprint
    with pytest.raises(InputError, match="not trained with these settings; choose another name or delete"):
        train(store, TopK(32, k=4), to=tmp_path / "sae", **QUICK)


def test_clips_restrict_what_is_seen(store) -> None:
    class Watched(type(store)):
        asked: ClassVar[set[frozenset[str] | None]] = set()

        def batches(
            self, sites: list[str], batch_size: int, *, clips: Collection[str] | None = None, **order: int
        ) -> Iterator[FrameBatch]:
            self.asked.add(None if clips is None else frozenset(clips))
            yield from super().batches(sites, batch_size, clips=clips, **order)

    watched = Watched(store.frames)
    some = train(watched, TopK(32, k=3), clips=["clip-1", "clip-0"], **QUICK)
    assert watched.asked == {frozenset({"clip-0", "clip-1"})}
    assert some.metadata["training"]["clips"]["count"] == 2
    with pytest.raises(InputError, match=r"no clip 'clip-x'.*did you mean"):
        train(store, TopK(32, k=3), clips=["clip-x"], **QUICK)
    with pytest.raises(InputError, match="no frames"):
        train(store, TopK(32, k=3), clips=[], **QUICK)


def test_sites_are_checked_before_any_work(store) -> None:
    with pytest.raises(InputError, match=r"no site 'encoder\.2\.resid_pos'; did you mean encoder\.2\.resid_post"):
        train(store, TopK(32, k=3), site="encoder.2.resid_pos", **QUICK)
    several = type(store)(store.frames)
    several.sites = ["encoder.1.resid_post", "encoder.2.resid_post"]
    with pytest.raises(InputError, match="several sites"):
        train(several, TopK(32, k=3), **QUICK)


def test_the_record_says_how_it_was_made(store, tmp_path: Path) -> None:
    dictionary = train(store, TopK(32, k=3), to=tmp_path / "sae", seed=7, **QUICK)
    made = load_dictionary(tmp_path / "sae").metadata
    assert made["site"] == "encoder.2.resid_post"
    assert made["training"]["spec"]["k"] == 3
    assert made["training"]["seed"] == 7
    assert made["training"]["store"] == "made-up"
    assert made["final_metrics"] == dictionary.metadata["final_metrics"]
    log = [json.loads(line) for line in (tmp_path / "sae" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 61))
    assert {"loss", "fvu", "l0", "dead_share", "lr"} <= set(log[0])
    assert log[-1]["fvu"] < log[0]["fvu"]


def test_without_numba_training_gives_the_same_dictionary(store, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = train(store, TopK(32, k=3), **QUICK)
    monkeypatch.setattr(dispatch, "_compiled", lambda: None)
    plain = train(store, TopK(32, k=3), **QUICK)
    cosine = torch.nn.functional.cosine_similarity(compiled.decoder, plain.decoder)
    assert float(cosine.min()) > 0.99


def test_a_run_that_diverges_is_stopped(store, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = TopKLearner.gradients

    def overflow(self: TopKLearner, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        found, metrics = gradients(self, batch, step)
        return found, metrics | ({"loss": metrics["loss"] * float("nan")} if step == 30 else {})

    monkeypatch.setattr(TopKLearner, "gradients", overflow)
    with pytest.raises(OtoscopeError, match=r"diverged: its loss is nan after step 31; use a lower learning rate"):
        train(store, TopK(32, k=3), **QUICK)


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 50)
    assert max(rates) == 1.0
    assert rates[50:800] == [1.0] * 750
    assert rates[-1] == pytest.approx(1 / 200)
    assert all(later < earlier for earlier, later in pairwise(rates[801:]))
    assert default_learning_rate(2**14) == pytest.approx(2e-4)
    assert default_learning_rate(2**12) == pytest.approx(4e-4)
    assert default_steps(75_000, 4096) == 1_000
    assert default_steps(10**7, 4096) == 97_656
