"""Notes as a file: git merges it, import takes it whole or not at all, in any order and any number of times."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.atlas.notes import Evidence, FeatureKey, Notes
from otoscope.atlas.notes.exchange import read_lines
from otoscope.atlas.notes.revision import Revision, plain_text
from otoscope.errors import InputError

PRINT = "ab" * 32
names = st.sampled_from(["Ann", "Bob", "Žofie"])
words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8).map(plain_text).filter(bool)
times = st.integers(0, 59).map(lambda s: f"2026-11-21T10:00:{s:02d}.000000Z")
moments = st.builds(Evidence, words, st.floats(0, 9), st.floats(10, 20)) | st.builds(Evidence, reference=words)


@st.composite
def histories(draw: st.DrawFn) -> list[Revision]:
    """Some notes with edits, conflicts and deletions: what a group of people may have written."""
    made: list[Revision] = []
    for i in range(draw(st.integers(1, 3))):
        key, author, created = FeatureKey("sae-2", PRINT, draw(st.integers(0, 2))), draw(names), draw(times)
        own: list[Revision] = []
        for _ in range(draw(st.integers(1, 4))):
            parents = draw(st.lists(st.sampled_from(own), max_size=2, unique=True)) if own else []
            own.append(
                Revision(
                    f"{i:032x}", key, "comment", author, created, draw(names), draw(times),
                    draw(words), tuple(sorted(p.revision for p in parents)),
                    confidence=draw(st.none() | st.floats(0, 1)), evidence=tuple(draw(st.lists(moments, max_size=2))),
                    deleted=draw(st.booleans()),
                )
            )  # fmt: skip
        made += own
    return made


def lines(made: list[Revision]) -> str:
    return "".join(f"{each.line()}\n" for each in made)


def parts(of: list[Revision]) -> st.SearchStrategy[list[Revision]]:
    return st.lists(st.sampled_from(of), unique_by=lambda each: each.revision)


def kept(folder: Path, *imports: bytes) -> tuple[str, list[Any]]:
    """Import into a new file; return what it then exports and shows."""
    shutil.rmtree(folder, ignore_errors=True)
    notes = Notes(folder / "notes.sqlite")
    for each in imports:
        notes.import_jsonl(each)
    shown = [note for i in range(3) for note in notes.of(FeatureKey("sae-2", PRINT, i), deleted=True)]
    notes.export_jsonl(folder / "notes.jsonl")
    exported = (folder / "notes.jsonl").read_text("utf-8")
    assert sorted(exported.splitlines()) == sorted(lines(notes.revisions()).splitlines())
    notes.close()
    return exported, shown


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_import_is_commutative_idempotent_and_a_union(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "merged"
    whole = data.draw(histories())
    a, b = (lines(data.draw(parts(whole))).encode() for _ in "ab")
    once = kept(folder, a, b)
    assert kept(folder, b, a) == once
    assert kept(folder, a, b, a, b, b) == once
    assert kept(folder, a + b) == once
    assert kept(folder, once[0].encode()) == once
    assert set(once[0].splitlines()) == {*a.decode().splitlines(), *b.decode().splitlines()}


@given(histories())
@settings(max_examples=15, deadline=None)
def test_every_revision_is_read_as_it_was_written(made: list[Revision]) -> None:
    read = {each.revision: each for each in read_lines(lines(made).encode())}
    assert read == {each.revision: each for each in made}


def exported(folder: Path, texts: dict[int, str], author: str = "Ann") -> Path:
    notes = Notes(folder / "notes.sqlite")
    for feature, text in texts.items():
        notes.add(FeatureKey("sae-2", PRINT, feature), "label", text, author=author)
    notes.export_jsonl(folder / "notes.jsonl")
    return folder / "notes.jsonl"


BREAK: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda r: r | {"text": "changed by hand"}, "its content is not that of revision"),
    (lambda r: {k: v for k, v in r.items() if k != "editor"}, "it lacks 'editor'"),
    (lambda r: r | {"colour": "red"}, "it has the unknown field 'colour'"),
    (lambda r: r | {"feature": True}, "feature cannot be True"),
    (lambda r: r | {"feature": -1}, "there is no feature -1"),
    (lambda r: r | {"text": 5}, "text cannot be 5"),
    (lambda r: r | {"edited": "yesterday"}, "edited cannot be 'yesterday'"),
    (lambda r: r | {"parents": ["x"]}, "parents are ids of revisions"),
    (lambda r: r | {"parents": [3]}, "parents are ids of revisions"),
    (lambda r: r | {"confidence": 7}, "the confidence 7 is not between 0 and 1"),
    (lambda r: r | {"confidence": float("nan")}, "it is not JSON (NaN is not a number)"),
    (lambda r: r | {"evidence": ["u1"]}, "evidence is a moment"),
    (lambda r: r | {"evidence": [{"clip_id": "u1", "start_s": "0"}]}, "start_s of evidence cannot be '0'"),
    (lambda r: r | {"fingerprint": "../../etc"}, "the fingerprint of a dictionary cannot be"),
    (lambda r: [r], "it is not a JSON object"),
]


@pytest.mark.parametrize(("change", "said"), BREAK, ids=[said for _, said in BREAK])
def test_one_bad_line_is_named_and_nothing_is_imported(tmp_path: Path, change: Any, said: str) -> None:
    good = exported(tmp_path, {i: f"label {i}" for i in range(4)}).read_text("utf-8").splitlines()
    good[2] = json.dumps(change(json.loads(good[2])))
    notes = Notes(tmp_path / "other.sqlite")
    with pytest.raises(InputError) as refusal:
        notes.import_jsonl("\n".join(good).encode())
    sentence = str(refusal.value)
    assert sentence.startswith("Line 3 is not a note: ")
    assert said in sentence
    assert sentence.endswith(". Nothing was imported.")
    assert notes.revisions() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello", "Line 1 is not a note: it is not JSON"),
        (b"\n\n\xff\xfe", "Line 3 is not a note: it is not JSON"),
        (b"[" * 100_000, "Line 1 is not a note: it is not JSON (nested too deeply)"),
        (b"<<<<<<< HEAD\n", "the mark of an unfinished git merge"),
        (b'"' + b"x" * 300_000 + b'"', "it is 300,002 bytes long"),
    ],
)
def test_what_is_no_export_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        Notes(tmp_path / "notes.sqlite").import_jsonl(content)
    assert said in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give a file of exported notes"):
        Notes(tmp_path / "notes.sqlite").import_jsonl(tmp_path / "none.jsonl")


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    file = exported(tmp_path, {1: "m", 2: "n"})
    content = b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n")
    assert Notes(tmp_path / "other.sqlite").import_jsonl(content).n_new == 2


def test_a_line_of_another_note_cannot_hide_mine(tmp_path: Path) -> None:
    """A revision replaces only revisions of its own note, whatever it says."""
    notes, key = Notes(tmp_path / "notes.sqlite"), FeatureKey("sae-2", PRINT, 1)
    mine = notes.add(key, "label", "m", author="Ann").current
    for note, feature in ((mine.note, FeatureKey("sae-2", PRINT, 2)), ("f" * 32, key)):
        other = Revision(
            note, feature, "label", "Bob", mine.created, "Bob", mine.created, "x", (mine.revision,), deleted=True
        )
        notes.import_jsonl(other.line().encode())
    assert [note.current.text for note in notes.of(key)] == ["m"]


class Repository:
    """Two branches of a real git repository, in which two people export their notes."""

    def __init__(self, folder: Path, attributes: str) -> None:
        self.folder, self.file = folder / "repository", folder / "repository" / "notes.jsonl"
        self.folder.mkdir()
        self.git("init", "--quiet", "--initial-branch", "main")
        (self.folder / ".gitattributes").write_text(attributes)

    def git(self, *words: str) -> int:
        who = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", *who, *words], cwd=self.folder, capture_output=True, check=False).returncode

    def commit(self, notes: Notes) -> None:
        notes.export_jsonl(self.file)
        self.git("add", "--all")
        assert self.git("commit", "--quiet", "--message", "notes") == 0


def branches(tmp_path: Path, attributes: str, by_ann: list[int], by_bob: list[int]) -> tuple[int, Repository, set[str]]:
    """Let both annotate in branches of their own; return the code of `git merge`, the repository, all lines written."""
    repository = Repository(tmp_path, attributes)
    start = Notes(tmp_path / "start.sqlite")
    for feature in range(0, 100, 10):
        start.add(FeatureKey("sae-2", PRINT, feature), "label", f"of {feature}", author="Carl")
    repository.commit(start)
    written = set(repository.file.read_text("utf-8").splitlines())
    for name, features in (("Ann", by_ann), ("Bob", by_bob)):
        repository.git("checkout", "--quiet", "-b", name, "main")
        own = Notes(tmp_path / f"{name}.sqlite")
        own.import_jsonl(repository.file)
        for feature in features:
            key = FeatureKey("sae-2", PRINT, feature)
            for note in own.of(key):
                own.edit(note.id, note.current.revision, editor=name, text=f"{name} corrects {feature}")
            own.add(key, "label", f"{name} on {feature}", author=name)
        repository.commit(own)
        written |= set(repository.file.read_text("utf-8").splitlines())
    return repository.git("merge", "--quiet", "--no-edit", "Ann"), repository, written


def test_git_merges_work_on_different_features_by_itself(tmp_path: Path) -> None:
    code, repository, written = branches(tmp_path, "", [0, 15, 30], [22, 50, 70])
    assert code == 0
    assert set(repository.file.read_text("utf-8").splitlines()) == written


def test_git_merges_work_on_the_same_features_with_merge_union(tmp_path: Path) -> None:
    both = [0, 10, 15, 50, 99]
    code, repository, written = branches(tmp_path, "*.jsonl merge=union\n", both, both)
    assert code == 0
    assert set(repository.file.read_text("utf-8").splitlines()) == written
    merged = Notes(tmp_path / "merged.sqlite")
    done = merged.import_jsonl(repository.file)
    assert done.n_new == len(written)
    assert {str(note.feature) for note in done.conflicts} == {"sae-2:0", "sae-2:10", "sae-2:50"}
    assert {each.text for each in done.conflicts[0].versions} == {"Ann corrects 0", "Bob corrects 0"}
    merged.export_jsonl(repository.file)
    before = repository.file.read_bytes()
    again = Notes(tmp_path / "Ann.sqlite")
    again.import_jsonl(repository.file)
    again.export_jsonl(repository.file)
    assert repository.file.read_bytes() == before, "all who have imported everything export the same file"


def test_without_it_git_asks_and_the_unfinished_file_is_refused(tmp_path: Path) -> None:
    code, repository, _ = branches(tmp_path, "", [50], [50])
    assert code != 0
    with pytest.raises(InputError, match=r"Line \d+ is not a note: it is the mark of an unfinished git merge"):
        Notes(tmp_path / "merged.sqlite").import_jsonl(repository.file)
