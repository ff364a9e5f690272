"""`otoscope notes`: what a person writes on the command line is found again, exchanged and compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import otoscope, refused


@pytest.fixture
def own(ws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with the dictionaries and atlases of the shared one, and notes of its own."""
    monkeypatch.setenv("OTOSCOPE_AUTHOR", "Ann")
    folder = tmp_path / "ws"
    folder.mkdir()
    (folder / "otoscope.toml").write_bytes((ws / "otoscope.toml").read_bytes())
    for kind in ("dictionaries", "atlases"):
        (folder / kind).symlink_to(ws / kind)
    return folder


def test_a_label_is_listed_found_and_exchanged(own: Path, tmp_path: Path) -> None:
    why = ("--evidence", "u0001@0.5-1.25", "--evidence", "Ladefoged, p. 33")
    done = otoscope("notes", "add", "sae-2:30", "nasal [m]", "--confidence", "0.8", *why, "-w", own)
    assert (done.code, done.out) == (0, "✓ label of sae-2:30 by Ann\n")
    otoscope("notes", "add", "sae-2:31", "--kind", "star", "--author", "Bob", "-w", own)
    assert "nasal [m]" in otoscope("notes", "list", "-w", own).out
    (found,) = otoscope("notes", "list", "sae-2:30", "--search", "nas", "--json", "-w", own).json
    assert (found["feature"], found["confidence"], found["editor"]) == ("sae-2:30", 0.8, "Ann")
    assert found["evidence"] == [
        {"clip_id": "u0001", "start_s": 0.5, "end_s": 1.25},
        {"reference": "Ladefoged, p. 33"},
    ]
    assert [note["kind"] for note in otoscope("notes", "list", "--author", "Bob", "--json", "-w", own).json] == ["star"]
    assert otoscope("notes", "list", "--kind", "tag", "--json", "-w", own).json == []
    file = tmp_path / "notes.jsonl"
    assert otoscope("notes", "export", file, "--json", "-w", own).json == {"file": str(file), "lines": 2}
    assert otoscope("notes", "import", file, "--json", "-w", own).json == {"lines": 2, "new": 0, "conflicts": []}
    file.write_text(file.read_text("utf-8") + "half a li", "utf-8")
    assert refused("notes", "import", file, "-w", own).startswith("Line 3 is not a note: it is not JSON")


def test_agreement_of_two_annotators(own: Path) -> None:
    assert "No feature has labels of two people yet" in otoscope("notes", "agreement", "-w", own).out
    for feature, (ann, bob) in enumerate(["mm", "nn", "sz"]):
        otoscope("notes", "add", f"sae-2:{feature}", ann, "-w", own)
        otoscope("notes", "add", f"sae-2:{feature}", bob, "--author", "Bob", "-w", own)
    told = otoscope("notes", "agreement", "--dictionary", "sae-2", "--json", "-w", own).json
    assert told["percent"] == pytest.approx(2 / 3)
    assert told["alpha"] == pytest.approx(1 - 5 * 2 / (36 - 4 - 4 - 1 - 1))
    assert told["disagreements"] == [{"feature": "sae-2:2", "labels": {"Ann": "s", "Bob": "z"}}]
    shown = otoscope("notes", "agreement", "-w", own).out
    assert "3 features with labels of two people or more" in shown
    assert "Ann: s; Bob: z" in shown
    assert otoscope("notes", "agreement", "--blind", "--json", "-w", own).json["n_features"] == 0


def test_edits_of_the_same_note_elsewhere_are_listed_as_a_conflict(own: Path, tmp_path: Path) -> None:
    from otoscope.workspace import Workspace

    notes = Workspace.open(own).notes()
    otoscope("notes", "add", "sae-2:1", "m", "-w", own)
    otoscope("notes", "export", tmp_path / "notes.jsonl", "-w", own)
    (note,) = notes.all()
    for editor, text in (("Ann", "bilabial"), ("Bob", "nasal")):
        notes.edit(note.id, note.current.revision, editor=editor, text=text)
    assert "1 notes have several versions" in otoscope("notes", "import", tmp_path / "notes.jsonl", "-w", own).out
    shown = otoscope("notes", "list", "--conflicts", "-w", own).out
    assert shown.count("(one of several versions)") == 2
    assert "bilabial" in shown
    assert "nasal" in shown
    (told,) = otoscope("notes", "list", "--conflicts", "--json", "-w", own).json
    assert sorted(each["text"] for each in told["conflict"]) == ["bilabial", "nasal"]


def test_what_cannot_be_noted_is_refused(own: Path, tmp_path: Path) -> None:
    assert refused("notes", "add", "sae-2:99999", "m", "-w", own) == "sae-2 has the features 0…63; there is no 99999."
    assert "did you mean" in refused("notes", "add", "sae-3:1", "m", "-w", own)
    assert "is not a feature" in refused("notes", "add", "sae-2", "m", "-w", own)
    assert refused("notes", "add", "sae-2:1", "", "-w", own) == "The label is empty."
    assert "did you mean label?" in refused("notes", "add", "sae-2:1", "m", "--kind", "labels", "-w", own)
    assert "is not a span of time" in refused("notes", "add", "sae-2:1", "m", "--evidence", "u1@2-1", "-w", own)
    assert "is not a moment" in refused("notes", "add", "sae-2:1", "m", "--evidence", "u1@1.2.3-4", "-w", own)
    assert "cannot be read" in refused("notes", "import", tmp_path / "none.jsonl", "-w", own)
    assert "after the second word" in refused("notes", "--json", "list")
