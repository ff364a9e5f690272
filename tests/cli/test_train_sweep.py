"""`otoscope train --sweep`: many dictionaries from one command, each the one that it is when trained alone."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import otoscope, refused

from otoscope.activations import ActivationStore
from otoscope.dictionaries import L1, Settings, TopK, TrainingRun, read_config, train_many
from otoscope.dictionaries.training.sweep import sweep_points
from otoscope.errors import InputError
from otoscope.workspace import DictionaryPlan, Workspace, sweep_stage

LOW, HIGH, OUT = "encoder.1.resid_post", "encoder.2.resid_post", "encoder.1.mlp.out"
SMALL = ("--features", "48", "--steps", "10", "--batch-size", "256")


@pytest.fixture(scope="module")
def harvested(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a store of three sites and no dictionary."""
    folder = tmp_path_factory.mktemp("sweeps") / "harvested"
    done = otoscope("harvest", "--corpus", few, "--site", LOW, "--site", HIGH, "--site", OUT, "--workspace", folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def place(harvested: Path, tmp_path: Path) -> Path:
    """A copy of it, to fill."""
    return shutil.copytree(harvested, tmp_path / "ws")


def swept(place: Path, *words: object) -> dict[str, dict[str, Any]]:
    """Run a sweep; return what is said of each dictionary by its name."""
    done = otoscope("train", *SMALL, *words, "--workspace", place, "--json")
    assert done.code == 0, done.err
    return {one["name"]: one for one in done.json["dictionaries"]}


def files(place: Path, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((place / "dictionaries" / name).iterdir())}


def sweep(**axes: str) -> list[str]:
    return [word for field, values in axes.items() for word in ("--sweep", f"{field}={values}")]


def test_each_is_byte_for_byte_the_one_trained_alone(place: Path, harvested: Path, tmp_path: Path) -> None:
    made = swept(place, *sweep(kind="topk,l1", k="4", alpha="9", seed="0,1", site=f"{LOW},encoder.blocks.2"))
    assert len(made) == 2 * 2 * (1 + 1), "for both sites and seeds: a TopK with this k, and an L1 with this alpha"
    assert len({files(place, name)["sae_weights.safetensors"] for name in made}) == len(made), "no two are the same"
    other = shutil.copytree(harvested, tmp_path / "alone")
    for name, words in {
        "sae-2-topk-k4-s1": ("--site", HIGH, "--k", "4", "--seed", "1"),
        "sae-1-l1-alpha9.0-s1": ("--site", LOW, "--kind", "l1", "--alpha", "9", "--seed", "1"),
    }.items():
        alone = otoscope("train", *SMALL, *words, "--name", name, "--workspace", other, "--json")
        assert alone.code == 0, alone.err
        assert files(place, name) == files(other, name)
        assert {key: made[name][key] for key in ("fvu", "l0", "dead_share")} == {
            key: alone.json[key] for key in ("fvu", "l0", "dead_share")
        }


def test_frames_are_read_once_for_all(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, batches = [], ActivationStore.batches

    def counted(store: ActivationStore, *args: Any, **options: Any) -> Iterator[Any]:
        for batch in batches(store, *args, **options):
            read.append(len(batch))
            yield batch

    monkeypatch.setattr(ActivationStore, "batches", counted)
    made = swept(place, *sweep(k="1,2", lr="1e-3,1e-2", optimiser="adam,radam"), "--site", HIGH)
    assert sum(read) <= 10 * 256
    assert len({files(place, name)["sae_weights.safetensors"] for name in made}) == 8, "no two are the same"


def test_adding_a_value_trains_only_what_is_new(place: Path) -> None:
    first = swept(place, *sweep(k="2,4", site=HIGH))
    assert {one["state"] for one in first.values()} == {"done"}
    before = {name: files(place, name) for name in first}
    more = swept(place, *sweep(k="8,2,4", site=f"{HIGH},{OUT}"))
    assert {name for name, one in more.items() if one["reused"]} == set(first)
    assert {name for name, one in more.items() if one["state"] == "done"} == {
        *("sae-2-k8", "sae-1.mlp.out-k2", "sae-1.mlp.out-k4", "sae-1.mlp.out-k8")
    }
    assert {name: files(place, name) for name in first} == before
    assert set(more) == set(Workspace.open(place).names("dictionaries")), "every verb finds them by name"
    alone = otoscope("train", *SMALL, "--k", "2", "--site", HIGH, "--name", "sae-2-k2", "--workspace", place, "--json")
    assert alone.json["state"] == "reused", "and so does training one of them alone"


def test_a_stopped_sweep_goes_on_and_ends_with_the_same_bytes(place: Path, harvested: Path, tmp_path: Path) -> None:
    training = {"steps": 20, "batch_size": 256, "checkpoint_every": 6}
    plans = [DictionaryPlan(f"k{k}", HIGH, n_features=48, k=k, training=training) for k in (2, 4)]

    def stop(stage: str, done: int, total: int) -> None:
        if done == 15:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        sweep_stage(Workspace.open(place), "few", plans, progress=stop)
    assert Workspace.open(place).names("dictionaries") == []
    steps: list[int] = []
    three = [*plans, DictionaryPlan("k1", HIGH, n_features=48, k=1, training=training)]
    resumed = sweep_stage(Workspace.open(place), "few", plans, progress=lambda stage, done, total: steps.append(done))
    assert [one.state for one in resumed] == ["resumed", "resumed"]
    assert min(steps) == 12, "from the last checkpoint"
    assert [one.state for one in sweep_stage(Workspace.open(place), "few", three, progress=False)][:2] == ["reused"] * 2
    whole = shutil.copytree(harvested, tmp_path / "whole")
    sweep_stage(Workspace.open(whole), "few", three, progress=False)
    for plan in three:
        assert files(place, plan.name) == files(whole, plan.name)


def test_it_streams_and_shows_a_table(place: Path) -> None:
    words = ("--stream", *sweep(site=f"{HIGH},{LOW}"), "--k", "3", "--name", "live", "--workspace", place)
    done = otoscope("train", *SMALL, *words)
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines() if line.strip().startswith("live-")]
    assert [row[:3] for row in rows] == [["live-2", "done", "48"], ["live-1", "done", "48"]]
    assert all(0 < float(row[3]) < 1.5 and row[4] == "3.0" for row in rows)
    assert "2 dictionaries, 2 trained in one pass and 0 reused" in done.out
    assert "held-out speakers" in done.out


def test_files_sweep_too_and_options_go_before_them(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(f'sites = ["{HIGH}"]\n[training]\nlr = 0.5\n[sweep]\nk = [8, 16]\nlr = "none"\nseed = [0, 1]\n')
    said = refused("train", "--config", file, "--print-config")
    assert "lr is given one value and swept over, too" in said
    file.write_text(f'sites = ["{HIGH}"]\n[sweep]\nk = [8, 16]\nbetas = [[0.9, 0.99], [0, 0.9]]\nseed = [0, 1]\n')
    words = ("--config", file, "--seed", "7", *sweep(kind="topk,jumprelu", lr="none,1e-3"), "--features", "48")
    printed = otoscope("train", *words, "--print-config").out
    assert tomllib.loads(printed)["sweep"] == {
        "k": [8, 16],
        "betas": [[0.9, 0.99], [0.0, 0.9]],
        "kind": ["topk", "jumprelu"],
        "lr": ["none", 0.001],
    }
    file.write_text(printed)
    points = sweep_points(read_config(file))
    assert len(points) == 2 * 2 * 2 + 2 * 2
    names = [point.name([HIGH]) for point in points]
    assert (names[0], names[-1]) == ("sae-2-topk-k8-lr-none-betas0.9-0.99", "sae-2-jumprelu-lr0.001-betas0.0-0.9")
    assert len(set(names)) == len(names)
    assert {point.config.settings().seed for point in points} == {7}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (sweep(batch_size="256,512"), "learn from the same batches: batch_size cannot be swept"),
        (sweep(centring="mean,none"), "centred and scaled once: centring cannot be swept"),
        (sweep(steps="5,6"), "end together: steps cannot be swept"),
        (sweep(kk="3"), "no field 'kk' to sweep over; did you mean k?"),
        (sweep(alpha="3"), "no field 'alpha' to sweep over"),
        (sweep(kind="topk,pca"), "'pca' is not an architecture that can be trained"),
        (sweep(k="4,4"), "k has the value 4 twice"),
        (sweep(k="4,x"), "k must be a whole number, got 'x'"),
        (sweep(k="4,64"), "64"),
        (sweep(k=""), "No value of k is given"),
        (["--sweep", "k"], "--sweep takes a field and its values, such as k=8,16; got 'k'"),
        (["--sweep", "k=1", "--sweep", "k=2"], "--sweep gives k twice"),
        (["--k", "3", *sweep(k="4,5")], "k is given one value and swept over, too"),
        (["--kind", "l1", *sweep(kind="topk,l1")], "kind is given one value and swept over, too"),
        (sweep(site=f"{HIGH},{LOW}+{OUT}"), "reads one site, got 2"),
        (["--site", LOW, "--site", HIGH], f"for one of each write --sweep site={LOW},{HIGH}."),
        (sweep(site=f"{HIGH},encoder.blocks.2"), "Two dictionaries would have the name 'sae-2'"),
        ([*sweep(k="4,5"), "--name", "Mine"], "'Mine' is not a valid name"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(harvested: Path, words: list[str], said: str) -> None:
    site = [] if "site" in str(words) else ["--site", HIGH]
    assert said in refused("train", *SMALL, *site, *words, "--workspace", harvested)
    assert Workspace.open(harvested).names("dictionaries") == []
    assert not list((harvested / "stages").glob("train.*"))


def test_a_dictionary_of_somebody_else_is_never_overwritten(place: Path) -> None:
    mine = place / "dictionaries" / "sae-2-k4"
    mine.mkdir(parents=True)
    (mine / "cfg.json").write_text("{}")
    said = refused("train", *SMALL, "--site", HIGH, *sweep(k="2,4"), "--workspace", place)
    assert "no stage of this workspace made it" in said
    assert Workspace.open(place).names("dictionaries") == ["sae-2-k4"]
    assert (mine / "cfg.json").read_text() == "{}"


def test_side_by_side_settings_may_differ_where_batches_do_not(harvested: Path) -> None:
    store = Workspace.open(harvested).store("few")
    basis = Settings(steps=3, batch_size=128)
    for changed, reason in (
        ({"batch_size": 64}, "learn from the same batches: batch_size cannot be 128 and 64"),
        ({"normalisation": "unit_norm"}, "centred and scaled once"),
    ):
        runs = [TrainingRun(TopK(48, k=2), HIGH, settings=basis.changed(**one)) for one in ({}, changed)]
        with pytest.raises(InputError, match=reason):
            train_many(store, runs, progress=False)
    own = TrainingRun(L1(48), HIGH, settings=basis.changed(clip_norm=0.1))
    both = train_many(store, [TrainingRun(TopK(48, k=2), HIGH), own], settings=basis, progress=False)
    assert [one.metadata["training"]["clip_norm"] for one in both] == [1.0, 0.1]
