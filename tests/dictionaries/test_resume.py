"""A run that is killed at any moment, and resumed, ends with the bytes of one that never was; damage is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from otoscope.dictionaries import Settings, TopK, TrainingRun, train, train_many
from otoscope.dictionaries.registry import architectures
from otoscope.dictionaries.training import runs
from otoscope.dictionaries.training.checkpoint import BEFORE, LAST
from otoscope.errors import OtoscopeError

HERE = Path(__file__).parent
SPEC = TopK(200, k=2, dead_after_frames=3000, k_start=6)
SETTINGS = Settings(steps=60, batch_size=300, lr=5e-3)


class KilledError(Exception):
    """Stands for the end of the process."""


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stop_at(step: int, error: type[BaseException] = KilledError) -> Callable[[str, int, int], None]:
    def report(stage: str, done: int, total: int) -> None:
        if done == step:
            raise error

    return report


def test_more_than_twenty_kills_change_no_byte(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    command = [sys.executable, str(HERE / "killed_runs.py"), str(tmp_path), "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["began"]) == 23
    assert report["began"][19] > 40, "the run did go on from life to life"
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {"one", "two"}


@pytest.mark.parametrize("lost", ["position", "optimiser.", "state.silent_frames", "parameters.decoder_bias"])
def test_nothing_that_a_checkpoint_holds_is_superfluous(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The control: without any one part of it the resumed run ends elsewhere."""
    for name in ("whole", "cut"):
        with pytest.raises(KilledError):
            train(store, SPEC, settings=SETTINGS, to=tmp_path / name / "sae", progress=stop_at(40))

    def forgetful(*arguments: Any) -> tuple[int, dict[str, Tensor]] | None:
        found = load(*arguments)
        assert found is not None
        gone = [name for name in found[1] if name.startswith(lost)]
        assert gone
        return found[0], {name: t * 0 if name in gone else t for name, t in found[1].items()}

    train(store, SPEC, settings=SETTINGS, to=tmp_path / "whole" / "sae", progress=False)
    load = runs.load_checkpoint
    monkeypatch.setattr(runs, "load_checkpoint", forgetful)
    train(store, SPEC, settings=SETTINGS, to=tmp_path / "cut" / "sae", progress=False)
    assert files(tmp_path / "cut") != files(tmp_path / "whole")


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(store: Any, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"settings": SETTINGS, "to": tmp_path / "cut" / "sae"}
    train(store, SPEC, settings=SETTINGS, to=tmp_path / "whole" / "sae", progress=False)
    with pytest.raises(KilledError):
        train(store, SPEC, progress=stop_at(40), **arguments)
    last, before = (tmp_path / "cut" / ".sae.training" / name for name in (LAST, BEFORE))
    data = bytearray(last.read_bytes())
    data[-3] ^= 1
    last.write_bytes(data)
    with pytest.warns(UserWarning, match=rf"{LAST} is damaged .*SHA-256.*goes on from the checkpoint before"):
        train(store, SPEC, progress=False, **arguments)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")

    with pytest.raises(KilledError):
        train(store, SPEC, settings=SETTINGS, to=tmp_path / "both" / "sae", progress=stop_at(40))
    for name in (LAST, BEFORE):
        path = tmp_path / "both" / ".sae.training" / name
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(OtoscopeError, match=rf"{LAST} is damaged.*{BEFORE} is damaged.*delete .* to start"):
        train(store, SPEC, settings=SETTINGS, to=tmp_path / "both" / "sae", progress=False)
    assert before.parent.exists() is False


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C as in a terminal, also where whoever started the tests ignores it, as shells do for what runs behind."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_ctrl_c_finishes_the_step_writes_a_checkpoint_and_says_how_to_go_on(store: Any, tmp_path: Path) -> None:
    settings = Settings(steps=60, batch_size=300, lr=5e-3, checkpoint_every=1000)

    def press(stage: str, done: int, total: int) -> None:
        if done == 23:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped after step 24 of 60; run the same again"):
        train(store, SPEC, settings=settings, to=tmp_path / "cut" / "sae", progress=press)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    reported: list[int] = []
    train(
        store,
        SPEC,
        settings=settings,
        to=tmp_path / "cut" / "sae",
        progress=lambda stage, done, _: reported.append(done),
    )
    assert reported[0] == 24
    train(store, SPEC, settings=settings, to=tmp_path / "whole" / "sae", progress=False)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_every_architecture_resumes_exactly(tmp_path: Path) -> None:
    from memory_store import MemoryStore, frames_of

    sites = {f"encoder.{i}.resid_post": frames_of(1500, d=12, n=16, k=2, seed=i)[0] for i in range(2)}
    store = MemoryStore(sites)
    settings = Settings(steps=30, batch_size=96, lr=3e-3, checkpoint_every=4)

    def make(folder: Path, progress: Any) -> None:
        wanted = []
        for kind, spec in architectures().items():
            names = {"one": list(sites)[:1]}.get(spec.reads, list(sites))
            wanted.append(TrainingRun(smallest(spec), names, to=folder / kind))
        train_many(store, wanted, settings=settings, progress=progress)

    make(tmp_path / "whole", False)
    for step in (7, 22):
        with pytest.raises(KilledError):
            make(tmp_path / "cut", stop_at(step))
    make(tmp_path / "cut", False)
    whole, cut = files(tmp_path / "whole"), files(tmp_path / "cut")
    assert {name.split("/")[0] for name in whole} == set(architectures())
    assert [name for name in whole if whole[name] != cut.get(name)] == []


def smallest(spec: Any) -> Any:
    """A dictionary of 40 features, sparse and soon dead, so that everything an architecture can do happens."""
    wanted = {"n_features": 40, "k": 4, "dead_after_frames": 300}
    return spec(**{name: value for name, value in wanted.items() if name in spec.__dataclass_fields__})


def test_files_of_a_killed_write_are_cleared_away(store: Any, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(store, SPEC, settings=SETTINGS, to=tmp_path / "sae", progress=stop_at(40))
    half = tmp_path / ".sae.training" / ".checkpoint.safetensors.abc.part"
    half.write_bytes(b"half")
    with pytest.raises(KilledError):
        train(store, SPEC, settings=SETTINGS, to=tmp_path / "sae", progress=stop_at(50))
    assert not half.exists()


def test_checkpoints_come_by_the_clock_too(store: Any, tmp_path: Path) -> None:
    settings = Settings(steps=60, batch_size=300, checkpoint_every=1000, checkpoint_seconds=1e-9)
    with pytest.raises(KilledError):
        train(store, SPEC, settings=settings, to=tmp_path / "sae", progress=stop_at(31))
    reported: list[int] = []
    again = Settings(steps=60, batch_size=300, checkpoint_every=7)  # when it is saved is no part of the run
    train(store, SPEC, settings=again, to=tmp_path / "sae", progress=lambda stage, done, _: reported.append(done))
    assert reported[0] == 31


def test_the_state_of_the_callers_random_numbers_is_left_alone(store: Any) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train(store, SPEC, settings=Settings(steps=3, batch_size=64), progress=False)
    assert torch.equal(torch.rand(1), expected)
