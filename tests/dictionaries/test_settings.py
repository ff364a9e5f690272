"""Everything that can be chosen is a documented field: in files, on the command line, and in the record."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from otoscope.dictionaries import Settings, TopK, train
from otoscope.dictionaries.architectures import topk
from otoscope.dictionaries.registry import architectures
from otoscope.dictionaries.training import logs
from otoscope.dictionaries.training.config import TrainingConfig, read_config
from otoscope.dictionaries.training.fields import fields_of
from otoscope.dictionaries.training.optimiser import Optimiser
from otoscope.dictionaries.training.schedule import learning_rate
from otoscope.errors import InputError, OtoscopeError

TOML = """
kind = "topk"
sites = ["encoder.2.resid_post"]
[architecture]
n_features = 48
k = 3
[training]
steps = 20
batch_size = 200
lr = 3e-3
betas = [0.5, 0.99]
clip_norm = "none"
"""
YAML = """
kind: topk
sites: encoder.2.resid_post
architecture: {n_features: 48, k: 3}
training: {steps: 20, batch_size: 200, lr: 3e-3, betas: [0.5, 0.99], clip_norm: null}
"""


@pytest.mark.parametrize("cls", [Settings, *architectures().values()], ids=lambda cls: cls.__name__)
def test_every_field_has_a_text_below_it(cls: type) -> None:
    for name, field in fields_of(cls).items():
        assert len(field.meaning) > 10, name
        assert field.meaning.endswith("."), name


def test_a_file_says_what_the_arguments_would(store: Any, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TOML, "utf-8")
    (tmp_path / "run.yaml").write_text(YAML, "utf-8")
    first, second = read_config(tmp_path / "run.toml"), read_config(tmp_path / "run.yaml")
    assert (first.spec(), first.settings()) == (second.spec(), second.settings())
    assert first.settings() == Settings(steps=20, batch_size=200, lr=3e-3, betas=(0.5, 0.99), clip_norm=None)
    from_file = train(store, first.spec(), sites=first.sites, settings=first.settings(), progress=False)
    by_hand = train(store, TopK(48, k=3), settings=first.settings(), progress=False)
    assert from_file.fingerprint == by_hand.fingerprint


@pytest.mark.parametrize("kind", architectures())
def test_a_printed_config_reads_back_to_the_same_run(kind: str, tmp_path: Path) -> None:
    config = TrainingConfig(
        kind, {"n_features": 64}, {"steps": 50, "eps": 1e-5, "clip_norm": 0.5}, ("encoder.ln_post",)
    )
    (tmp_path / "printed.toml").write_text(config.toml(), "utf-8")
    again = read_config(tmp_path / "printed.toml")
    assert again.spec() == config.spec()
    assert again.settings() == config.settings()
    assert again.sites == config.sites
    for field in (*fields_of(Settings).values(), *fields_of(type(config.spec())).values()):
        assert f"# {field.meaning}\n" in config.toml()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "topkk"', "'topkk' is not an architecture.*did you mean topk"),
        ("[training]\nstep = 3", r"no setting 'step' in \[training\].*did you mean steps"),
        ('kind = "topk"\n[architecture]\nkk = 3', r"no setting 'kk' in \[architecture\].*did you mean k"),
        ("[trainin]\nsteps = 3", "no key 'trainin'.*did you mean training"),
        ('[training]\nsteps = "many"', "steps must be a whole number, or none, got 'many'"),
        ("[training]\nsteps = 1.5", "steps must be a whole number"),
        ("[training]\nscaling = 3", "scaling must be true or false, got 3"),
        ('[training]\nschedule = "lineal"', "schedule must be one of linear, cosine, constant, got 'lineal'"),
        ("[training]\nbetas = [0.9]", "betas must be 2 numbers"),
        ("steps == 3", "is not TOML"),
    ],
)
def test_what_a_file_may_not_say_is_refused_with_the_nearest(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        read_config(tmp_path / "bad.toml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config file .*none\.toml cannot be read"):
        read_config(tmp_path / "none.toml")


def test_layers_of_settings_go_on_top_of_each_other() -> None:
    below = TrainingConfig("l1", {"n_features": 200, "alpha": 5.0}, {"steps": 10, "lr": 1.0}, ("a",))
    above = below.changed(TrainingConfig("", {"alpha": 7.0}, {"lr": 2.0}))
    assert (above.kind, above.sites) == ("l1", ("a",))
    assert above.architecture == {"n_features": 200, "alpha": 7.0}
    assert above.training == {"steps": 10, "lr": 2.0}
    other = below.changed(TrainingConfig("topk", {"k": 3}))
    assert other.spec() == TopK(200, k=3)
    with pytest.raises(InputError, match="no setting 'alpha' in the architecture topk"):
        below.changed(TrainingConfig("topk", {"alpha": 3.0})).spec()


def test_schedules() -> None:
    cosine = [learning_rate(step, 100, 1.0, schedule="cosine", warm_up=0) for step in range(100)]
    assert cosine[0] == 1.0
    assert cosine[50] == pytest.approx(0.5)
    assert cosine[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))
    constant = [learning_rate(step, 100, 2.0, schedule="constant", warm_up=4) for step in range(100)]
    assert constant[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert set(constant[4:]) == {2.0}
    whole = [learning_rate(step, 100, 1.0, warm_up=10, decay=0.9) for step in range(100)]
    assert whole[10:] == pytest.approx([(100 - step) / 90 for step in range(10, 100)]), "from the warm-up on to 0"


def test_settings_reach_the_optimiser(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    make, take = Optimiser.__init__, Optimiser.step

    def watch(self: Optimiser, learner: Any, betas: Any, eps: float, **rest: Any) -> None:
        seen.update(betas=betas, eps=eps, **rest)
        make(self, learner, betas, eps, **rest)

    def watch_step(self: Optimiser, batch: Any, step: int, lr: float) -> Any:
        seen["lr"] = max(lr, seen.get("lr", 0.0))
        return take(self, batch, step, lr)

    monkeypatch.setattr(Optimiser, "__init__", watch)
    monkeypatch.setattr(Optimiser, "step", watch_step)
    settings = Settings(steps=2, batch_size=64, lr=0.5, betas=(0.1, 0.2), eps=1e-3, clip_norm=None, optimiser="radam")
    train(store, TopK(16, k=2), settings=settings, progress=False)
    assert seen == {"lr": 0.5, "betas": (0.1, 0.2), "eps": 1e-3, "clip_norm": None, "kind": "radam"}


def test_the_record_and_the_log_hold_every_setting_that_matters(store: Any, tmp_path: Path) -> None:
    settings = Settings(steps=30, batch_size=128, log_every=10, schedule="cosine")
    made = train(store, TopK(16, k=2), settings=settings, to=tmp_path / "sae", progress=False)
    record = made.metadata["training"]
    for name in set(fields_of(Settings)) - {"checkpoint_every", "checkpoint_seconds"}:
        assert name in record
    assert record["lr"] is not None
    lines = [json.loads(line) for line in (tmp_path / "sae" / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]


def test_tensorboard_gets_what_the_log_gets(store: Any, tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = logs.TensorBoard(tmp_path / "board")
    settings = Settings(steps=12, batch_size=64, log_every=3)
    train(store, TopK(16, k=2), settings=settings, to=tmp_path / "sae", trackers=[board], progress=False)
    board.close()
    events = reading.EventAccumulator(str(tmp_path / "board" / "sae"))
    events.Reload()
    lines = [json.loads(line) for line in (tmp_path / "sae" / "metrics.jsonl").read_text("utf-8").splitlines()]
    for name in ("loss", "fvu", "l0", "dead_share", "lr"):
        found = {event.step: event.value for event in events.Scalars(name)}
        assert found == {line["step"]: pytest.approx(line[name], rel=1e-5) for line in lines}


def test_wandb_gets_what_the_log_gets(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker = logs.WeightsAndBiases("otoscope-test", {"kind": "topk"})
    sent: list[dict[str, float]] = []
    log = wandb.run.log
    monkeypatch.setattr(wandb.run, "log", lambda values: (sent.append(values), log(values)))
    settings = Settings(steps=6, batch_size=64, log_every=3)
    made = train(store, TopK(16, k=2), settings=settings, to=tmp_path / "sae", trackers=[tracker], progress=False)
    tracker.close()
    assert [values["step"] for values in sent] == [3, 6]
    assert sent[-1]["sae/fvu"] == made.metadata["final_metrics"]["fvu"]
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


@pytest.mark.parametrize(("cls", "package"), [(logs.TensorBoard, "tensorboard"), (logs.WeightsAndBiases, "wandb")])
def test_a_missing_extra_is_one_sentence(
    cls: Any, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("torch.utils.tensorboard", "tensorboard", "wandb"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(OtoscopeError, match=rf"pip install 'otoscope\[{package}\]'"):
        cls(str(tmp_path))


def test_bfloat16_finds_candidates_and_weights_stay_float32(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    encode = topk.encode_top_k

    def watch(*arguments: Any, shortlist: bool = False) -> Any:
        asked.append(shortlist)
        return encode(*arguments, shortlist=shortlist)

    monkeypatch.setattr(topk, "encode_top_k", watch)
    made = {}
    for dtype in ("float32", "bfloat16"):
        settings = Settings(steps=3, batch_size=64, dtype=dtype)  # type: ignore[arg-type]
        made[dtype] = train(store, TopK(64, k=2), settings=settings, progress=False).tensors()
    assert asked == [False] * 3 + [True] * 3
    assert {tensor.dtype for tensor in made["bfloat16"].values()} == {torch.float32}
    assert torch.allclose(made["bfloat16"]["W_dec"], made["float32"]["W_dec"], atol=1e-3)
