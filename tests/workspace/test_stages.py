"""A stage is run once; what was stopped goes on, what changed or was damaged is done again, and it says which."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from otoscope.errors import InputError, OtoscopeError
from otoscope.workspace import StageOutcome, Workspace
from otoscope.workspace.stages import run_stage


class Job:
    """Writes two files, and can be made to fail after the first."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.output = workspace.path("stores", "x")
        self.runs = 0
        self.found: list[str] = []

    def __call__(self, failure: BaseException | None = None, **inputs: object) -> StageOutcome:
        def work(folder: Path) -> None:
            self.runs += 1
            self.found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "a").write_text("first")
            if failure is not None:
                raise failure
            (folder / "b").write_text("second")

        return run_stage(self.workspace, "harvest", "x", inputs or {"seed": 0}, self.output, work)


@pytest.fixture
def job(fresh: Workspace) -> Job:
    return Job(fresh)


def test_a_finished_stage_is_reused(job: Job) -> None:
    assert job().state == "done"
    again = job()
    assert (again.state, again.reused, job.runs) == ("reused", True, 1)


def test_a_stage_whose_inputs_changed_is_done_afresh(job: Job) -> None:
    job(seed=0)
    outcome = job(seed=1)
    assert (outcome.state, outcome.reason) == ("redone", "its inputs changed")
    assert job.found == []
    assert job(seed=1).reused


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), OtoscopeError("full")])
def test_a_stopped_stage_goes_on_with_what_it_had_written(job: Job, stop: BaseException) -> None:
    with pytest.raises(type(stop)):
        job(stop)
    outcome = job()
    assert (outcome.state, job.found, job.runs) == ("resumed", ["a"], 2)
    assert job().reused


def test_a_stopped_stage_with_other_inputs_starts_afresh(job: Job) -> None:
    with pytest.raises(KeyboardInterrupt):
        job(KeyboardInterrupt(), seed=0)
    assert job(seed=1).state == "redone"
    assert job.found == []


def _cut(path: Path) -> None:
    path.write_text("fir")


def _change(path: Path) -> None:
    path.write_text("fjrst")
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("damage", [_cut, _change, Path.unlink])
def test_a_damaged_stage_is_named_and_redone(job: Job, damage: Callable[[Path], None]) -> None:
    job()
    damage(job.output / "a")
    outcome = job()
    assert outcome.state == "redone"
    assert str(job.output / "a") in outcome.reason
    assert "damaged" in outcome.reason or "missing" in outcome.reason
    assert (job.output / "a").read_text() == "first"


def test_a_lost_folder_is_made_again(job: Job) -> None:
    job()
    shutil.rmtree(job.output)
    assert job().state == "redone"


def test_a_copied_workspace_is_not_damaged(job: Job, tmp_path: Path) -> None:
    job()
    shutil.copytree(job.workspace.folder, tmp_path / "copy", copy_function=shutil.copyfile)
    copied = Job(Workspace.open(tmp_path / "copy"))
    assert copied().reused


def test_a_damaged_record_is_no_proof(job: Job) -> None:
    job()
    (job.workspace.folder / "stages" / "harvest.x.json").write_text("{")
    assert job().state == "redone"


def test_what_no_stage_made_is_never_deleted(job: Job) -> None:
    job.output.mkdir(parents=True)
    (job.output / "mine").write_text("x")
    with pytest.raises(InputError, match="no stage of this workspace made it"):
        job()
    assert (job.output / "mine").exists()


def test_two_runs_do_not_work_in_one_workspace_at_once(job: Job) -> None:
    def work(_: Path) -> None:
        job()

    with pytest.raises(OtoscopeError, match=rf"Another otoscope \(process {os.getpid()}, since [\d:]+\) is working in"):
        run_stage(job.workspace, "train", "y", {}, job.workspace.path("dictionaries", "y"), work)
    assert job().state == "done"
