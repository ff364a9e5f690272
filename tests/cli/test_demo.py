"""`otoscope demo`: everything in one command, in JSON for machines, reused and resumed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import Finished, otoscope
from small_demo import SMALL

from otoscope.cli import demo
from otoscope.workspace import Workspace

DIGITS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}


@pytest.fixture
def small_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan less than the demo does, so that the tests of its behaviour take seconds."""
    monkeypatch.setattr(demo, "make_plan", lambda *_: SMALL)


@pytest.fixture(scope="module")
def finished(few: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """A workspace in which the demo has run, which tests may run again, and what that first run said."""
    folder = tmp_path_factory.mktemp("demo") / "ws"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "make_plan", lambda *_: SMALL)
        return folder, otoscope("demo", "--corpus", few, "--no-serve", "--workspace", folder, "--json")


@pytest.mark.usefixtures("small_plan")
def test_the_demo_leaves_a_workspace_and_a_second_run_reuses_it(few: Path, finished: tuple[Path, Finished]) -> None:
    folder, first = finished
    second = otoscope("demo", "--corpus", few, "--no-serve", "--workspace", folder, "--json")
    assert [stage["state"] for stage in first.json["stages"]] == ["done"] * 6
    assert all(stage["reused"] for stage in second.json["stages"])
    assert second.err.count("reused") == 6
    assert first.json["sae"] == second.json["sae"]
    assert Workspace.open(folder).names("atlases") == ["neurons-0", "sae-2"]


@pytest.mark.usefixtures("small_plan")
def test_people_get_a_table_and_what_to_try_next(few: Path, finished: tuple[Path, Finished]) -> None:
    done = otoscope("demo", "--corpus", few, "--no-serve", "--workspace", finished[0])
    assert done.code == 0
    for word in ("harvest", "train", "atlas", "FVU", "phones have a feature with F1 ≥ 0.7", "otoscope search"):
        assert word in done.out


@pytest.mark.usefixtures("small_plan")
def test_stopped_and_run_again_it_resumes(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("demo", "--corpus", few, "--no-serve", "--workspace", tmp_path / "ws", "--json")
    with monkeypatch.context() as patch:
        patch.setattr("otoscope.atlas.build_atlases", _interrupt)
        stopped = otoscope(*words)
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.err.splitlines()[-1] == "otoscope: stopped; run the same command again to resume"
    states = {(stage["stage"], stage["name"]): stage["state"] for stage in otoscope(*words).json["stages"]}
    assert states["train", "sae-2"] == "reused"
    assert states["atlas", "sae-2"] == "resumed"


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("small_plan")
def test_it_serves_at_the_end_and_ctrl_c_is_no_failure(
    few: Path, finished: tuple[Path, Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[tuple[Path, int]] = []

    def serve(workspace: Workspace, host: str, port: int, open_browser: bool) -> None:
        print("listening")
        served.append((workspace.folder, port))
        raise KeyboardInterrupt

    monkeypatch.setattr("otoscope.server.serve", serve)
    folder = finished[0]
    done = otoscope("demo", "--corpus", few, "--workspace", folder, "--port", "0", "--json")
    assert done.code == 0
    assert done.json["corpus"] == "few"
    assert served == [(folder, 0)]
    assert otoscope("serve", "--workspace", folder, "--port", "0").code == 0


@pytest.mark.shared
def test_the_whole_demo_on_real_recordings(shared: Path, tmp_path: Path) -> None:
    """On every tenth of them, which are all words by all voices."""
    digits = tmp_path / "digits"
    digits.mkdir()
    for recording in sorted((shared / "data" / "digits").rglob("*.*"))[::10]:
        shutil.copy(recording, digits)
    summary = otoscope("demo", "--corpus", digits, "--no-serve", "--workspace", tmp_path / "ws", "--json").json
    assert summary["corpus"] == "digits"
    assert summary["counts"]["clips"] == 250
    assert summary["sae"]["held_out"]["by"] == "speakers"
    assert summary["sae"]["fvu"] < 0.2
    words_found = [row for row in summary["best"] if row["kind"] == "word"]
    assert {row["label"] for row in words_found} == DIGITS
    assert words_found[0]["f1"] > 0.3
