"""Notes over HTTP: added, edited, found, merged, hidden from the blind; and one sentence for whatever is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from httpx import Response

from otoscope.server.routes import notes as routes

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from otoscope.workspace import Workspace

JSON = dict[str, Any]
FEATURES = iter(range(20, 128))


@pytest.fixture
def at() -> Iterator[str]:
    """The notes of a feature that no other test has touched."""
    return iter([f"/api/atlases/sae-2/features/{next(FEATURES)}/notes"])


def ok(answer: Response) -> Any:
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def refused(answer: Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert "\n" not in answer.json()["error"]
    return str(answer.json()["error"])


def add(client: TestClient, url: str, text: str = "", kind: str = "label", author: str = "Ann", **more: Any) -> JSON:
    made: JSON = ok(client.post(url, json={"kind": kind, "text": text, "author": author, **more}))
    return made


def edit(client: TestClient, note: JSON, editor: str = "Ann", **more: Any) -> JSON:
    based_on = more.pop("based_on", [each["revision"] for each in note["versions"]])
    done: JSON = ok(client.put(f"/api/notes/{note['id']}", json={"based_on": based_on, "editor": editor, **more}))
    return done


def texts(client: TestClient, url: str, **query: Any) -> list[str]:
    return [note["current"]["text"] for note in ok(client.get(url, params=query))["notes"]]


def test_a_note_is_added_edited_deleted_and_brought_back(client: TestClient, workspace: Workspace, at: Any) -> None:
    url = next(at)
    moment = {"clip_id": "u0001-paul", "start_s": 0.5, "end_s": 1.0}
    made = add(client, url, "m", confidence=0.8, evidence=[moment, {"reference": "a book"}])
    assert (made["atlas"], f"{made['index']}") == ("sae-2", url.split("/")[-2])
    assert made["current"]["evidence"][0] == {**moment, "reference": None}
    assert [note["id"] for note in ok(client.get(url))["notes"]] == [made["id"]]
    changed = edit(client, made, "Bob", text="nasal")
    assert (changed["author"], changed["current"]["editor"], changed["current"]["confidence"]) == ("Ann", "Bob", 0.8)
    changed = edit(client, changed, "Bob", confidence=None)
    assert (changed["current"]["confidence"], len(changed["current"]["evidence"])) == (None, 2)
    seen = {"editor": "Bob", "based_on": changed["current"]["revision"]}
    gone = ok(client.delete(f"/api/notes/{made['id']}", params=seen))
    assert gone["current"]["deleted"]
    assert texts(client, url) == []
    assert not edit(client, gone, text="again")["current"]["deleted"]
    assert texts(client, url) == ["again"]
    history = ok(client.get(f"/api/notes/{made['id']}/history"))
    assert [each["text"] for each in history] == ["m", "nasal", "nasal", "nasal", "again"]
    assert len(workspace.notes().history(made["id"])) == 5


def test_a_stale_edit_is_kept_beside_the_newer_one_and_can_be_resolved(client: TestClient, at: Any) -> None:
    url = next(at)
    seen = add(client, url, "m")
    assert len(edit(client, seen, "Ann", text="bilabial")["versions"]) == 1
    stale = edit(client, seen, "Bob", text="nasal")
    assert sorted(each["text"] for each in stale["versions"]) == ["bilabial", "nasal"]
    assert len(ok(client.get(url))["notes"][0]["versions"]) == 2
    assert len(edit(client, stale, "Ann", text="bilabial nasal")["versions"]) == 1
    assert texts(client, url) == ["bilabial nasal"]


def test_the_blind_see_only_their_own_until_they_have_given_a_label(client: TestClient, at: Any) -> None:
    url = next(at)
    ann = add(client, url, "secretword", blind=True)
    add(client, url, "another secretword", author="Carl")
    mine = add(client, url, "hard to hear", "comment", "Bob")
    blind = {"author": "Bob", "blind": 1}
    seen = ok(client.get(url, params=blind))
    assert ([note["id"] for note in seen["notes"]], seen["hidden"], seen["revealed"]) == ([mine["id"]], 2, False)
    assert ok(client.get("/api/notes", params={"q": "secretword", **blind})) == []
    assert "secretword" not in client.get("/api/notes/export", params=blind).text
    refused(client.get(f"/api/notes/{ann['id']}/history", params=blind), 404)
    assert "secretword" in client.get("/api/notes/agreement").text
    assert "secretword" not in client.get("/api/notes/agreement", params=blind).text
    given = add(client, url, "n", author="Bob", blind=True)
    assert given["current"]["blind"]
    seen = ok(client.get(url, params=blind))
    assert (len(seen["notes"]), seen["hidden"], seen["revealed"]) == (4, 0, True)
    assert "secretword" in client.get("/api/notes/export", params=blind).text
    differing = ok(client.get("/api/notes/agreement", params={"blind_labels": 1, "atlas": "sae-2", **blind}))
    assert {"Ann": "secretword", "Bob": "n"} in [each["labels"] for each in differing["disagreements"]]
    assert not add(client, url, "n or m", author="Bob", blind=True)["current"]["blind"]
    assert "author=NAME" in refused(client.get(url, params={"blind": 1}), 400)


def test_notes_are_found_by_their_words(client: TestClient, at: Any) -> None:
    url = next(at)
    made = add(client, url, "Lateralgeräusch", "comment")
    for query in ({"q": "lateralger"}, {"q": "LATERALGERÄUSCH", "atlas": "sae-2"}):
        assert [note["id"] for note in ok(client.get("/api/notes", params=query))] == [made["id"]]
    assert ok(client.get("/api/notes", params={"q": "lateralger", "atlas": "neurons-3"})) == []
    assert made["id"] in {note["id"] for note in ok(client.get("/api/notes", params={"limit": 1000}))}


def test_what_is_exported_can_be_imported_and_a_bad_line_is_named(
    client: TestClient, workspace: Workspace, at: Any
) -> None:
    url = next(at)
    add(client, url, "m")
    content = client.get("/api/notes/export").content
    assert ok(client.post("/api/notes/import", content=content)) == {
        "lines": len(content.splitlines()), "new": 0, "conflicts": []
    }  # fmt: skip
    before = len(workspace.notes().revisions())
    record = json.loads(content.splitlines()[0])
    bad = content + json.dumps({**record, "text": "forged"}).encode()
    said = refused(client.post("/api/notes/import", content=bad), 400)
    assert said.startswith(f"Line {len(content.splitlines()) + 1} is not a note: its content is not that of revision")
    assert len(workspace.notes().revisions()) == before


def test_too_much_at_once_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_IMPORT_BYTES", 100)
    assert "split the file" in refused(client.post("/api/notes/import", content=b"x" * 101), 413)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"kind": "label", "text": "", "author": "Ann"}, "The label is empty."),
        ({"kind": "label", "text": "m", "author": " "}, "The name of the author is empty."),
        ({"kind": "praise", "text": "m", "author": "Ann"}, "kind: Input should be"),
        ({"kind": "label", "text": "m", "author": "Ann", "confidence": 2}, "confidence: Input should be"),
        ({"kind": "label", "text": "m", "author": "Ann", "colour": "red"}, "colour: Extra inputs"),
        ({"kind": "label", "text": "m", "author": "Ann", "evidence": [{"clip_id": "u1"}]}, "is not a span of time"),
        ({"kind": "comment", "text": "x" * 10_001, "author": "Ann"}, "text: String should have at most"),
        ({"kind": "verdict", "text": "agree", "author": "Ann"}, "names the label that it is about"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_sentence(client: TestClient, at: Any, body: JSON, said: str) -> None:
    url = next(at)
    assert said in refused(client.post(url, json=body), 400)
    assert texts(client, url) == []


def test_what_does_not_exist_is_not_found(client: TestClient) -> None:
    assert "There is no atlas" in refused(client.get("/api/atlases/none/features/1/notes"), 404)
    assert "there is no 99999" in refused(client.get("/api/atlases/sae-2/features/99999/notes"), 404)
    nobody = "/api/notes/" + "0" * 32
    assert "There is no note" in refused(client.put(nobody, json={"based_on": ["x"], "editor": "Ann"}), 404)
    assert "There is no note" in refused(client.delete(nobody, params={"editor": "Ann", "based_on": "x"}), 404)
    assert "There is no note" in refused(client.get(f"{nobody}/history"), 404)


def test_pages_of_others_cannot_write(client: TestClient, at: Any) -> None:
    url, foreign = next(at), {"Origin": "https://evil.example"}
    made = add(client, url, "m")
    body = {"based_on": [made["current"]["revision"]], "editor": "Eve", "text": "evil"}
    assert client.post(url, json={"kind": "star", "author": "Eve"}, headers=foreign).status_code == 403
    assert client.put(f"/api/notes/{made['id']}", json=body, headers=foreign).status_code == 403
    assert client.delete(f"/api/notes/{made['id']}?editor=Eve&based_on=x", headers=foreign).status_code == 403
    assert client.post("/api/notes/import", content=b"", headers=foreign).status_code == 403
    assert texts(client, url) == ["m"]
