"""Searching by sound, by value, by combination and by nature from the command line gives what the atlas gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import otoscope
from interpreted import explained, tried, write_interpretations

from otoscope.audio import Corpus
from otoscope.workspace import Workspace


def refused(*words: object) -> str:
    """Return the one sentence with which a command was refused."""
    done = otoscope(*words)
    assert done.code == 2, done.out
    assert len(done.err.strip().splitlines()) == 1, done.err
    return done.err


def note_text(folder: Path) -> str:
    [note] = Workspace.open(folder).notes().all()
    return note.current.text


def test_by_sound_a_recording_finds_what_its_clip_finds(ws: Path, few: Path, tmp_path: Path) -> None:
    clip = Corpus.load(few)[0]
    soundfile.write(tmp_path / "mine.wav", clip.samples(), 16000, subtype="FLOAT")
    known = otoscope("search", "--like", f"{clip.clip_id}@0.5-1.0", "-w", ws, "--limit", "3", "--json").json
    other = otoscope("search", "--like", f"{tmp_path / 'mine.wav'}@0.5-1.0", "-w", ws, "--limit", "3", "--json").json
    assert known["atlas"] == other["atlas"] == "sae-2"
    assert known["frames"] == other["frames"] == 25
    assert known["features"][0]["feature"] in {row["feature"] for row in other["features"]}
    assert clip.clip_id not in {moment["clip_id"] for moment in known["similar"]}
    assert other["similar"][0]["clip_id"] == clip.clip_id
    text = otoscope("search", "--like", f"{clip.clip_id}@0.5-1.0", "-w", ws).out
    assert known["features"][0]["feature"] in text


def test_by_value_and_by_combination(ws: Path) -> None:
    atlas = Workspace.open(ws).atlas("sae-2")
    one, other = (int(i) for i in np.argsort(-atlas.column("n_active"))[:2])
    low, high = (float(q) for q in np.quantile(atlas.postings[one].values, [0.3, 0.6]))
    found = otoscope("search", f"sae-2:{one}", "--between", low, high, "-w", ws, "--json").json
    values = atlas.postings[one].values
    assert found["n_frames"] == np.count_nonzero((values >= np.float32(low)) & (values <= np.float32(high)))
    query = f"{one} and not {other}"
    both = otoscope("search", "--where", query, "-d", "sae-2", "-w", ws, "--json").json
    assert both["n_frames"] == len(np.setdiff1d(atlas.postings[one].frames, atlas.postings[other].frames))
    assert query in otoscope("search", "--where", query, "-d", "sae-2", "-w", ws).out


def test_by_nature_and_by_column(ws: Path) -> None:
    rows = otoscope("search", "--nature", "phonetic", "-w", ws, "--sort", "density", "--json").json
    workspace = Workspace.open(ws)
    assert rows
    for row in rows:
        name, index = row["feature"].split(":")
        assert workspace.atlas(name)[int(index)].stats["nature"] == "phonetic"
    densities = [row["density"] for row in rows]
    assert densities == sorted(densities, reverse=True)
    smallest = otoscope("search", "--nature", "phonetic", "-w", ws, "--sort=-density", "--json").json
    assert [row["density"] for row in smallest] == sorted(row["density"] for row in smallest)


@pytest.fixture
def told(ws: Path, tmp_path: Path) -> tuple[Path, list[int]]:
    """A copy of the workspace in which a note and a supported explanation tell of two features; and of a third not."""
    folder = Path(shutil.copytree(ws, tmp_path / "told"))
    atlas = Workspace.open(folder).atlas("sae-2")
    noted, explained_, refuted = features = [int(i) for i in np.argsort(-atlas.column("n_active"))[:3]]
    text = f"{'a long story before ' * 5}it comes to a rustling,\nlike xylophonic paper {'and so on ' * 9}"
    done = otoscope("notes", "add", f"sae-2:{noted}", text, "--kind", "comment", "--author", "Ada [b]", "-w", folder)
    assert done.code == 0, done.err
    rungs = {
        explained_: explained("Sibilants in xylophonic words.", tried(18, 0.5), name="[sibilants]"),
        refuted: explained("Nasals in xylophonic words.", tried(18, 0.85)),
    }
    write_interpretations(folder / "interpretations" / "sae-2.jsonl", atlas, rungs)
    return folder, features


def test_words_of_notes_and_supported_explanations_find_features_and_say_so(told: tuple[Path, list[int]]) -> None:
    folder, (noted, explained_, _) = told
    rows = otoscope("search", "xylophonic", "-w", folder, "--json").json
    assert {row["feature"]: row["found_by"] for row in rows} == {
        f"sae-2:{noted}": [" ".join(f"note of Ada [b]: {note_text(folder)}".split())],
        f"sae-2:{explained_}": ["explained: [sibilants]: Sibilants in xylophonic words."],
    }
    shown = " ".join(otoscope("search", "xylophonic", "-w", folder).out.replace("\n", " ").split())
    assert "found by" in shown
    assert "Ada [b]:" in shown
    assert "xylophonic" in shown
    assert "a long story before a long story" not in shown, "the end that holds the word is shown"
    assert len(otoscope("search", "xylophonic", "-w", folder, "--limit", "1", "--json").json) == 1
    assert otoscope("search", "xylophonic", "-d", "neurons-0", "-w", folder).code == 2


def test_what_notes_find_follows_what_a_label_finds(told: tuple[Path, list[int]]) -> None:
    folder, (noted, *_) = told
    atlas = Workspace.open(folder).atlas("sae-2")
    label = str(atlas.find(limit=1)["label"].iloc[0])
    before = otoscope("search", label, "-d", "sae-2", "-w", folder, "--limit", "2", "--json").json
    assert {tuple(row["found_by"]) for row in before} == {("label",)}
    both = before[0]["feature"]
    for feature in (both, f"sae-2:{noted}"):
        assert otoscope("notes", "add", feature, f"like {label}", "--author", "Bo", "-w", folder).code == 0
    rows = otoscope("search", label, "-d", "sae-2", "-w", folder, "--limit", "2", "--json").json
    assert rows[0] == before[0] | {"found_by": ["label", f"note of Bo: like {label}"]}
    assert rows[1] == before[1]
    expected = [] if f"sae-2:{noted}" in (both, before[1]["feature"]) else [f"sae-2:{noted}"]
    assert [row["feature"] for row in rows[2:]] == expected


def test_a_word_that_nobody_wrote_is_refused_with_the_nearest_and_nothing_is_written(ws: Path) -> None:
    assert "xylophonic" in refused("search", "xylophonic", "-w", ws)
    assert not (ws / "notes.sqlite").exists()


def test_a_letter_or_two_stand_for_themselves_and_more_for_how_words_begin(told: tuple[Path, list[int]]) -> None:
    folder, (_, _, other) = told
    assert otoscope("notes", "add", f"sae-2:{other}", "qzx like QZ", "--author", "Bo", "-w", folder).code == 0
    assert [row["feature"] for row in otoscope("search", "qz", "-w", folder, "--json").json] == [f"sae-2:{other}"]
    assert [row["feature"] for row in otoscope("search", "xylo", "-w", folder, "--json").json]
    assert "xy" in refused("search", "xy", "-w", folder)


def test_filters_and_orders_hold_for_what_notes_find(told: tuple[Path, list[int]]) -> None:
    folder, _ = told
    rows = otoscope("search", "xylophonic", "--sort", "n_active", "-w", folder, "--json").json
    ups = otoscope("search", "xylophonic", "--sort=-n_active", "-w", folder, "--json").json
    assert [row["feature"] for row in rows] == [row["feature"] for row in reversed(ups)]
    assert "lower --min-f1" in refused("search", "xylophonic", "--min-f1", "1.0", "-w", folder)
    assert "beauty" in refused("search", "xylophonic", "--sort", "beauty", "-w", folder)


def test_a_feature_is_matched_in_another_atlas(ws: Path) -> None:
    best = otoscope("features", "sae-2", "--top", "1", "-w", ws, "--json").json[0]["feature"]
    row = otoscope("features", best, "--like", "neurons-0", "-w", ws, "--json").json
    assert row["feature"] == best
    assert row["partner"] is None or row["partner"].startswith("neurons-0:")
    itself = otoscope("features", best, "--like", "sae-2", "-w", ws, "--json").json
    assert itself["partner"] == best
    assert itself["correlation"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Say what to search for"),
        (("s", "--like", "x@1-2"), "one way at a time"),
        (("--like", "nobody@1-2"), "nobody"),
        (("--like", "x@2-1"), "ends before"),
        (("--where", "12 and"), "character"),
        (("--between", "1", "2"), "needs a feature"),
        (("sae-2:1", "--between", "-1", "2"), "spans zero"),
        (("sae-2:1", "--between", "-2", "-1"), "never negative"),
        (("--nature", "lexicla"), "did you mean lexical"),
        (("--sort", "beauty"), "beauty"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_sentence(ws: Path, words: tuple[str, ...], said: str) -> None:
    assert said in refused("search", *words, "--workspace", ws)
