"""`otoscope train`: every setting is an option with its help, files and presets work, and so does the page about it."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command_line import otoscope, refused

from otoscope.audio import Corpus
from otoscope.dictionaries import Settings, load_dictionary
from otoscope.dictionaries.registry import architectures
from otoscope.dictionaries.training.fields import fields_of
from otoscope.workspace import DictionaryPlan, Workspace

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
SITE = ("--site", "encoder.2.resid_post")
SMALL = ("--features", "64", "--k", "4", "--steps", "12", "--batch-size", "256")


@pytest.fixture(scope="module")
def place(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a store of two sites, for training only."""
    folder = tmp_path_factory.mktemp("training") / "ws"
    done = otoscope("harvest", "--corpus", few, *SITE, "--site", "encoder.1.mlp.out", "--workspace", folder)
    assert done.code == 0, done.err
    return folder


def trained(place: Path, *words: object) -> dict[str, Any]:
    done = otoscope("train", *words, "--workspace", place, "--json")
    assert done.code == 0, done.err
    return dict(load_dictionary(done.json["path"]).metadata["training"]) | {"shown": done.json}


def test_help_lists_every_field_with_its_text_and_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text = " ".join(otoscope("train", "--help").out.replace("│", " ").split())
    for cls in (Settings, *architectures().values()):
        for name, field in fields_of(cls).items():
            assert f"--{name.replace('_', '-')}" in text, name
            assert field.meaning in text, name
            if type(field.default) in (int, float, str):
                assert f"(default: {field.default}" in text or f"{field.default} for" in text, name


def test_options_reach_the_record(place: Path) -> None:
    words = ("--schedule", "cosine", "--no-scaling", "--centring", "none", "--betas", "0.5,0.9", "--eps", "1e-5")
    record = trained(
        place,
        *SITE,
        "--features",
        "64",
        "--steps",
        "12",
        *words,
        "--kind",
        "l1",
        "--tied",
        "--alpha",
        "50",
        "--name",
        "tied",
    )
    assert {key: record[key] for key in ("schedule", "scaling", "centring", "betas", "eps", "steps")} == {
        "schedule": "cosine",
        "scaling": False,
        "centring": "none",
        "betas": [0.5, 0.9],
        "eps": 1e-5,
        "steps": 12,
    }
    assert record["spec"]["tied"] is True
    assert record["spec"]["alpha"] == 50
    assert record["shown"]["fvu"] > 0


def test_options_go_before_the_file_and_that_before_the_preset(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[architecture]\nn_features = 96\n[training]\nlr = 0.5\nbatch_size = 300\n", "utf-8")
    words = ("--preset", "freud-tiny-topk", "--config", file, "--k", "6", "--batch-size", "200", "--print-config")
    found = tomllib.loads(otoscope("train", *words).out)
    assert (found["kind"], found["sites"]) == ("topk", ["encoder.2.resid_post"])
    assert (found["architecture"]["k"], found["architecture"]["n_features"]) == (6, 96)
    assert found["training"] | {"lr": 0.5, "batch_size": 200, "steps": 100_000, "warm_up": 1000} == found["training"]


def test_a_preset_trains_and_says_that_it_is_of_another_model(place: Path) -> None:
    done = otoscope("train", "--preset", "freud-tiny-topk", *SMALL, "--name", "freud", "--workspace", place)
    assert done.code == 0, done.err
    assert "made for openai/whisper-tiny; this is pocket" in " ".join(done.err.split())
    said = refused("train", "--preset", "er537", "--workspace", place)
    assert "read encoder.1.resid_post, which the store does not have" in said


def test_presets_are_listed_with_what_is_not_known() -> None:
    listed = otoscope("train", "--list-presets").out
    assert "freud-large-v3-l1" in listed
    assert "not known: the batch size" in " ".join(listed.split())
    assert set(otoscope("train", "--list-presets", "--json").json) >= {"lesswrong", "er537"}


def test_it_streams_without_a_store(place: Path) -> None:
    record = trained(place, "--stream", "--site", "encoder.3.resid_post", *SMALL, "--name", "streamed")
    assert record["site"] == "encoder.3.resid_post"
    assert record["shown"]["held_out"]["by"] == "speakers"
    assert 0 < record["shown"]["fvu"] < 1.5
    assert "Say which site" in refused("train", "--stream", "--workspace", place)


def test_trackers_get_the_metrics(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    trained(place, *SITE, *SMALL, "--name", "tracked", "--tensorboard", tmp_path / "board")
    assert list((tmp_path / "board" / "tracked").glob("events.*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*SITE, "--alpha", "3"), "no setting 'alpha' in the architecture topk"),
        ((*SITE, "--steps", "many"), "steps must be a whole number, or none, got 'many'"),
        ((*SITE, "--kind", "topkk"), "did you mean topk"),
        ((*SITE, "--preset", "freud"), "no preset 'freud'"),
        ((*SITE, "--kind", "transcoder"), "reads one site and rebuilds another; name two"),
        ((*SITE, "--kind", "neurons", "--print-config"), "is not trained"),
        ((*SITE, "--dtype", "float16"), "dtype must be one of auto, float32, bfloat16"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(place: Path, words: tuple[str, ...], said: str) -> None:
    assert said in refused("train", *words, "--workspace", place)


def test_baselines_are_made_from_the_same_command(place: Path) -> None:
    for kind, features in (("pca", 256), ("random", 64), ("neurons", 256)):
        done = otoscope("train", *SITE, "--kind", kind, "--features", "64", "--k", "4", "--workspace", place, "--json")
        assert done.code == 0, done.err
        assert done.json["n_features"] == features
        assert "fvu" not in done.json


def test_a_plan_takes_any_architecture(place: Path) -> None:
    plan = DictionaryPlan("x", "a", kind="matryoshka", n_features=64, k=4, architecture={"groups": (0.5, 0.5)})
    assert plan.spec() == architectures()["matryoshka"](64, k=4, groups=(0.5, 0.5))  # type: ignore[call-arg]
    assert plan.training_settings(seed=3).seed == 3
    other = DictionaryPlan("x", "a", kind="matryoshka", n_features=64, k=4, training={"eps": 1e-4, "seed": 1})
    assert other.settings() != plan.settings()
    assert other.training_settings(seed=3).seed == 1
    assert Workspace.open(place).names("stores") == ["few"]


def test_the_page_runs_from_top_to_bottom(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTOSCOPE_WORKSPACE", raising=False)
    Corpus("mini", Corpus.load(few)).save(tmp_path / "mini")
    text = PAGE.read_text("utf-8")
    for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line.removeprefix("$ "))[1:]
            if "--steps" in words:
                words[words.index("--steps") + 1] = "12"
                words += ["--batch-size", "256"]
            done = otoscope(*words)
            assert done.code == 0, (line, done.err)
    (tmp_path / "run.toml").write_text("".join(re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)), "utf-8")
    assert otoscope("train", "--config", "run.toml", "--print-config").code == 0
    made = Workspace.open(None).names("dictionaries")
    assert {f"sae-2-{kind}-k{k}" for kind in ("topk", "batchtopk") for k in (8, 16, 32)} < set(made)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "docs/training.md", "exec"), names)
    assert len(names["saes"]) == 8
