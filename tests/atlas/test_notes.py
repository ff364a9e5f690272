"""Notes of features: kept for ever, found again, and never lost to somebody else's edit."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import note_writers
import pytest
from planted_world import World

from otoscope.atlas import Atlas
from otoscope.atlas.notes import Evidence, FeatureKey, Note, Notes
from otoscope.errors import InputError, OtoscopeError
from otoscope.workspace import Workspace

M, N = FeatureKey("sae-2", "ab" * 32, 30), FeatureKey("sae-2", "ab" * 32, 31)


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path / "notes.sqlite")


def texts(found: list[Note]) -> list[str]:
    return [note.current.text for note in found]


def test_a_label_is_found_again_with_all_that_was_said(notes: Notes, tmp_path: Path) -> None:
    why = [Evidence("u0001", 0.5, 1), Evidence(reference="Ladefoged (1971), p. 33"), Evidence("u2", 0, 2, "loud")]
    made = notes.add(M, "label", "  nasals\u0303 ", author="Ann", confidence=1, evidence=why)
    notes.close()
    (found,) = Notes(tmp_path / "notes.sqlite").of(M)
    assert found == made
    now = found.current
    assert (now.text, now.author, now.editor, now.confidence) == ("nasals̃", "Ann", "Ann", 1.0)
    assert now.evidence == tuple(why)
    assert now.created == now.edited
    assert now.created.endswith("Z")
    assert notes.of(N) == []


def test_reading_makes_no_file(notes: Notes) -> None:
    assert (notes.of(M), notes.all(), notes.search("m"), notes.conflicts()) == ([], [], [], [])
    assert notes.agreement().alpha is None
    assert "0 notes" in repr(notes)
    assert not notes.path.exists()


def test_notes_follow_the_dictionary_not_its_name_and_not_the_atlas(notes: Notes) -> None:
    notes.add(M, "label", "m", author="Ann")
    assert texts(notes.of(FeatureKey("renamed", M.fingerprint, 30))) == ["m"]
    assert notes.of(FeatureKey(M.dictionary, "cd" * 32, 30)) == []


def test_a_feature_of_an_atlas_is_known_by_its_dictionary(atlas: Atlas, world: World) -> None:
    key = FeatureKey.of(atlas, 2)
    assert key == FeatureKey(world.dictionary.name, world.dictionary.fingerprint, 2)
    for feature in (-1, len(atlas)):
        with pytest.raises(InputError, match=f"there is no {feature}"):
            FeatureKey.of(atlas, feature)


def test_an_edit_is_a_new_revision_and_the_old_one_stays(notes: Notes) -> None:
    first = notes.add(M, "label", "m", author="Ann", confidence=0.5, evidence=[Evidence("u1", 0, 1)])
    then = notes.edit(first.id, first.current.revision, editor="Bob", text="nasal")
    now = then.current
    assert (now.text, now.author, now.editor, now.confidence) == ("nasal", "Ann", "Bob", 0.5)
    assert now.evidence == first.current.evidence
    assert not then.in_conflict
    assert notes.edit(first.id, now.revision, editor="Bob", confidence=None).current.confidence is None
    assert [each.text for each in notes.history(first.id)] == ["m", "nasal", "nasal"]
    assert len(notes.of(M)) == 1


def test_a_deleted_note_can_be_brought_back(notes: Notes) -> None:
    made = notes.add(M, "comment", "two\nlines", author="Ann")
    gone = notes.delete(made.id, made.current.revision, editor="Ann")
    assert gone.deleted
    assert notes.of(M) == notes.all() == notes.search("lines") == []
    assert notes.of(M, deleted=True) == [gone]
    back = notes.edit(made.id, gone.current.revision, editor="Ann")
    assert texts(notes.of(M)) == ["two\nlines"]
    assert not back.deleted


def test_edits_of_the_same_revision_both_survive_until_somebody_chooses(notes: Notes) -> None:
    first = notes.add(M, "label", "m", author="Ann")
    base = first.current.revision
    assert not notes.edit(first.id, base, editor="Ann", text="bilabial").in_conflict
    stale = notes.edit(first.id, base, editor="Bob", text="nasal")
    assert stale.in_conflict
    assert {each.text for each in stale.versions} == {"bilabial", "nasal"}
    assert texts(notes.search("bilabial")) == ["nasal"], "both versions can be found"
    assert notes.conflicts() == [stale]
    half = notes.edit(first.id, stale.versions[0].revision, editor="Ann", text="labial")
    assert {each.text for each in half.versions} == {"labial", "nasal"}, "an edit of one version leaves the other"
    solved = notes.edit(first.id, [each.revision for each in half.versions], editor="Ann", text="bilabial nasal")
    assert (texts([solved]), solved.in_conflict, notes.conflicts()) == (["bilabial nasal"], False, [])
    assert len(notes.history(first.id)) == 5


def test_a_deletion_does_not_hide_what_its_author_had_not_seen(notes: Notes) -> None:
    first = notes.add(M, "comment", "loud", author="Ann")
    notes.edit(first.id, first.current.revision, editor="Ann", text="loud; see clip 3")
    after = notes.delete(first.id, first.current.revision, editor="Bob")
    assert (after.in_conflict, after.deleted, after.current.text) == (True, False, "loud; see clip 3")


def test_a_later_edit_is_later_whatever_the_clock_says(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    import otoscope.atlas.notes.notes as module

    first = notes.add(M, "label", "m", author="Ann")
    monkeypatch.setattr(module, "_now", lambda: "2001-01-01T00:00:00.000000Z")
    assert notes.edit(first.id, first.current.revision, editor="Ann", text="n").current.edited > first.current.edited


@pytest.mark.parametrize(
    ("kind", "text", "more", "said"),
    [
        ("label", " ", {}, "The label is empty."),
        ("label", "a\nb", {}, "The label has several lines; write it in one, or write a comment."),
        ("label", "m" * 201, {}, "The label has 201 characters; at most 200 are kept."),
        ("comment", "", {}, "A comment needs some text."),
        ("comment", "bell \x07", {}, "U+0007, which cannot be shown"),
        ("comment", "half \ud800", {}, "U+D800, which cannot be shown"),
        ("star", "!", {}, "A star has no text"),
        ("verdict", "maybe", {"about": "m"}, "A verdict says agree or disagree, not 'maybe'."),
        ("verdict", "agree", {}, "names the label that it is about"),
        ("label", "m", {"about": "n"}, "this is a label."),
        ("praise", "m", {}, "'praise' is no kind of note; there are label, comment, tag, star, verdict."),
        ("label", "m", {"author": ""}, "The name of the author is empty."),
        ("label", "m", {"confidence": 1.5}, "The confidence 1.5 is not between 0 and 1."),
        ("label", "m", {"confidence": float("nan")}, "The confidence nan is not"),
        ("label", "m", {"evidence": [Evidence("u1", 2, 1)]}, "The moment 2.0–1.0 s of 'u1' is not a span of time."),
        ("label", "m", {"evidence": [Evidence("u1", 2)]}, "is not a span of time"),
        ("label", "m", {"evidence": [Evidence()]}, "Evidence is a moment of a clip"),
        ("label", "m", {"evidence": [Evidence("u1", 0, 1)] * 51}, "at most 50"),
        ("comment", "so?", {"reply_to": "0" * 32}, "There is no note '00000000000000000000000000000000' of sae-2:30"),
    ],
)
def test_what_cannot_be_kept_is_refused(notes: Notes, kind: str, text: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        notes.add(M, kind, text, **{"author": "Ann", **more})
    assert said in str(refusal.value)
    assert str(refusal.value)[-1] == "."
    assert notes.revisions() == []


def test_an_edit_names_a_note_and_a_revision_that_exist(notes: Notes) -> None:
    mine, other = notes.add(M, "label", "m", author="Ann"), notes.add(M, "label", "n", author="Bob")
    for based_on in ("0" * 40, other.current.revision, [], [mine.current.revision, "0" * 40]):
        with pytest.raises(InputError, match="There is no note"):
            notes.edit(mine.id, based_on, editor="Ann", text="x")
    with pytest.raises(InputError, match="There is no note '1111"):
        notes.get("1" * 32)
    assert len(notes.revisions()) == 2


def test_a_reply_goes_to_a_note_of_the_same_feature(notes: Notes) -> None:
    asked = notes.add(M, "comment", "really?", author="Ann")
    told = notes.add(M, "comment", "yes", author="Bob", reply_to=asked.id)
    assert told.current.reply_to == asked.id
    with pytest.raises(InputError, match="of sae-2:31 to reply to"):
        notes.add(N, "comment", "yes", author="Bob", reply_to=asked.id)


def test_search_finds_whole_and_begun_words_in_any_script(notes: Notes) -> None:
    notes.add(N, "label", "Velar nasal /ŋ/", author="Ann")
    notes.add(M, "comment", "Näselnd, wie in „singen“", author="Ann")
    gone = notes.add(M, "tag", "nasal", author="Bob")
    notes.delete(gone.id, gone.current.revision, editor="Bob")
    assert texts(notes.search("nas vel")) == ["Velar nasal /ŋ/"]
    assert texts(notes.search("ŋ")) == texts(notes.search("/ŋ/")) == ["Velar nasal /ŋ/"]
    assert [note.feature for note in notes.search("NÄSELND")] == [M]
    assert notes.search("asal") == []
    assert notes.search("näs", fingerprint="cd" * 32) == []
    assert notes.search("") == notes.search('"') == notes.search("\x00") == notes.search("nasal OR näselnd") == []


def test_search_without_fts5_finds_words_anywhere(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    import otoscope.atlas.notes.database as module

    monkeypatch.setattr(module, "WORDS", "CREATE VIRTUAL TABLE words USING no_such_module(text)")
    notes.add(M, "label", "Näselnd 100%", author="Ann")
    assert texts(notes.search("ÄSEL")) == texts(notes.search("100%")) == ["Näselnd 100%"]
    assert notes.search("1%0") == []
    monkeypatch.undo()
    notes.add(N, "label", "other", author="Ann")
    assert texts(notes.search("näs")) == ["Näselnd 100%"], "the index catches up where SQLite can make one"
    assert notes.search("äseln") == []


def test_the_file_itself_refuses_to_forget(notes: Notes) -> None:
    notes.add(M, "label", "m", author="Ann")
    with sqlite3.connect(notes.path) as connection:
        for statement in ("UPDATE revision SET text = 'n'", "DELETE FROM revision"):
            with pytest.raises(sqlite3.IntegrityError, match="revisions"):
                connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, None])
def test_a_file_that_is_something_else_is_left_alone(notes: Notes, content: bytes | None) -> None:
    if content is None:
        with sqlite3.connect(notes.path) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        connection.close()
    else:
        notes.path.write_bytes(content)
    before = notes.path.read_bytes()
    with pytest.raises(OtoscopeError, match=r"notes.sqlite is (damaged|a database of another program)"):
        notes.add(M, "label", "m", author="Ann")
    assert notes.path.read_bytes() == before


def test_a_file_that_was_replaced_meanwhile_is_opened_again(notes: Notes) -> None:
    notes.add(M, "label", "m", author="Ann")
    for path in notes.path.parent.glob("notes.sqlite*"):
        path.unlink()
    assert notes.of(M) == []
    notes.add(M, "label", "n", author="Ann")
    assert texts(Notes(notes.path).of(M)) == ["n"]


def test_a_workspace_has_one_file_of_notes(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "ws", create=True)
    assert workspace.notes() is workspace.notes()
    workspace.notes().add(M, "star", author="Ann")
    assert (tmp_path / "ws" / "notes.sqlite").is_file()
    assert len(Workspace.open(tmp_path / "ws").notes().of(M)) == 1


def test_threads_and_programs_that_write_at_once_lose_nothing(notes: Notes) -> None:
    first = notes.add(M, "label", "m", author="Ann")
    at = (first.id, first.current.revision)
    programs = [
        subprocess.Popen([sys.executable, note_writers.__file__, notes.path, *at, f"program {i}"]) for i in range(2)
    ]
    with ThreadPoolExecutor(8) as threads:
        apart = [threads.submit(note_writers.write_all, notes.path, *at, f"thread {i}") for i in range(4)]
        shared = [threads.submit(notes.edit, *at, editor=f"shared {i}", text=f"shared {i} edited") for i in range(20)]
    assert [each.result() for each in apart] == [None] * 4
    assert [program.wait() for program in programs] == [0, 0]
    writers = [f"thread {i}" for i in range(4)] + [f"program {i}" for i in range(2)]
    expected = {f"{name} {i}" for name in writers for i in range(10)}
    found = {note.id: note for note in notes.of(M)}
    conflict = found.pop(first.id)
    assert {note.current.text for note in found.values()} == expected
    edits = {f"{text} edited" for text in expected} | {f"shared {i} edited" for i in range(len(shared))}
    assert {each.text for each in conflict.versions} == edits
    assert len(notes.revisions()) == 1 + len(expected) + len(edits)


def test_programs_that_begin_together_make_one_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda i: Notes(path).add(M, "label", str(i), author="Ann"), range(24)))
    assert {note.id for note in Notes(path).of(M)} == {note.id for note in made}
