"""What `otoscope interpret` found is told with its trial, found by its words, and never breaks a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from interpreted import HOSTILE, explained, tried, write_interpretations

from otoscope.workspace import Workspace

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

HELD, FAILED, LONG = 3, 4, 5


@pytest.fixture
def file(workspace: Workspace) -> Iterator[Path]:
    """Interpretations of three features: one that held, one that did not, one that was not tried and is too long."""
    told = {
        HELD: explained("Sibilants at the end of a word.", tried(18, 0.5)),
        FAILED: explained("Nasals in pluvial words.", tried(18, 0.85)),
        LONG: explained(HOSTILE + " word" * 1000, None),
    }
    path = workspace.folder / "interpretations" / "sae-2.jsonl"
    yield write_interpretations(path, workspace.atlas("sae-2"), told)
    path.unlink(missing_ok=True)


def told(client: TestClient, index: int) -> Any:
    answer = client.get(f"/api/atlases/sae-2/features/{index}/interpretation")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_feature_tells_what_was_said_of_it_and_how_that_did(client: TestClient, file: Path) -> None:
    found = told(client, HELD)
    assert [rung["method"] for rung in found["rungs"]] == ["label", "sound", "language model"]
    label, _, said = found["rungs"]
    assert (label["explanation"], label["trial"], label["verdict"]) == ("", None, "not tried")
    assert (said["explanation"], said["model"]) == ("Sibilants at the end of a word.", "a-model")
    assert (said["endpoint"], said["asked_at"]) == ("http://gpu-box:8000/v1", "2026-11-02T08:15:30Z")
    assert (label["endpoint"], label["asked_at"]) == (None, None)
    assert (said["verdict"], said["balanced_accuracy"], said["null"]) == ("supported", 0.9, 0.5)
    assert said["trial"] == (
        "Picked 18 of 20 held-out moments and 2 of 20 silent ones: 90 % right (95 % interval 80–100), "
        "50 % on random features."
    )
    assert found["written"]
    failed = told(client, FAILED)["rungs"][2]
    assert (failed["verdict"], failed["why"]) == ("not supported", "it fits random features about as well")


def test_without_an_interpretation_the_command_is_told(client: TestClient, file: Path) -> None:
    for index in (HELD + 10, HELD):
        found = told(client, index)
        assert (found["rungs"], found["command"]) == ([], f"otoscope interpret sae-2:{index}")
        file.unlink(missing_ok=True)
    assert client.get("/api/atlases/sae-2/features/99999/interpretation").status_code == 404


def test_texts_are_of_one_line_and_no_longer_than_a_page_can_bear(client: TestClient, file: Path) -> None:
    said = told(client, LONG)["rungs"][2]["explanation"]
    assert said.startswith("<b onclick=alert(1)>Hiss</b> & [31mbreath . word")
    assert (len(said), said[-1]) == (1000, "…")


def test_whom_and_when_may_be_missing_but_not_wrong(client: TestClient, file: Path) -> None:
    text = file.read_text("utf-8")
    by = json.loads(text.splitlines()[1])["rungs"][2]["by"]
    for other in ({"model": "a-model"}, by | {"endpoint": None, "asked_at": None}):
        file.write_text(text.replace(json.dumps(by), json.dumps(other)), "utf-8")
        said = told(client, HELD)["rungs"][2]
        assert (said["model"], said["endpoint"], said["asked_at"]) == ("a-model", None, None)
    for wrong in ({"endpoint": 7}, {"asked_at": 7}, {"asked_at": "yesterday"}, {"asked_at": "2026-11-02T08:15:30"}):
        file.write_text(text.replace(json.dumps(by), json.dumps(by | wrong)), "utf-8")
        assert "damaged" in told(client, HELD)["problems"][0], wrong
        assert told(client, HELD)["rungs"] == []


def test_what_is_damaged_is_named_and_the_rest_is_shown(client: TestClient, file: Path) -> None:
    lines = file.read_text("utf-8").splitlines()
    line = json.loads(lines[2])
    bad: list[Any] = [lines[2][:-9], json.dumps([1]), json.dumps({**line, "rungs": 7})]
    for name, value in (("hits", None), ("hits", 1e300), ("n_active", -1), ("null", "x")):
        broken = json.loads(lines[2])
        broken["rungs"][2]["score"][name] = value
        bad.append(json.dumps(broken))
    file.write_text("\n".join([*lines[:2], *bad, lines[3], "[" * 100_000, "x" * 2**21, ""]), "utf-8")
    found = told(client, HELD)
    assert found["rungs"][2]["verdict"] == "supported"
    assert [problem.split(" of ")[0] for problem in found["problems"]] == [
        "Line 3",
        "Line 4",
        "Line 5",
        "6 more",
    ]
    assert told(client, FAILED)["rungs"] == []
    assert told(client, LONG)["rungs"]


def test_what_is_of_another_build_of_the_atlas_is_not_shown(
    client: TestClient, file: Path, workspace: Workspace
) -> None:
    write_interpretations(file, workspace.atlas("neurons-3"), {HELD: explained("Sibilants.", tried(18, 0.5))})
    found = told(client, HELD)
    assert found["rungs"] == []
    assert "another build of this atlas" in found["problems"][0]
    file.write_text("\x00", "utf-8")
    assert "is not shown" in told(client, HELD)["problems"][0]


def test_words_of_supported_explanations_find_their_feature(client: TestClient, file: Path) -> None:
    def found(q: str) -> tuple[list[int], str]:
        page = client.get("/api/features", params={"q": q, "atlas": "sae-2", "dead": True}).json()
        return [row["index"] for row in page["rows"]], page["note"]

    assert found("sibilants word") == ([HELD], "1 by supported explanations.")
    assert found("sibi")[0] == [HELD]
    page = client.get("/api/features", params={"q": "sibi", "atlas": "sae-2", "dead": True}).json()
    assert page["found_by"] == [["supported explanations"]]
    assert found("pluvial")[0] == [], "it is not supported"
    assert found("held-out silent moments")[0] == [], "every explanation by sound begins so"
    assert "explanations" not in (found("s")[1] or "")
