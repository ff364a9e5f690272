"""`otoscope corpus` opens every layout, names what it leaves out, checks and exports; its output is short."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import otoscope, refused

from otoscope.workspace import Workspace


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A small LibriSpeech: two splits of three recordings."""
    for split, speaker in (("dev-clean", "84"), ("test-clean", "61")):
        folder = tmp_path / "LibriSpeech" / split / speaker / "1"
        folder.mkdir(parents=True)
        for n in range(3):
            soundfile.write(folder / f"{speaker}-1-{n:04d}.flac", np.sin(np.arange(4800) / 3) / 10, 16000)
        (folder / f"{speaker}-1.trans.txt").write_text("".join(f"{speaker}-1-{n:04d} WORD {n}\n" for n in range(3)))
    return tmp_path / "LibriSpeech"


def test_kinds_lists_every_layout() -> None:
    kinds = [row["kind"] for row in otoscope("corpus", "kinds", "--json").json]
    assert kinds[0] == "saved"
    assert kinds[-1] == "folder"
    assert {"librispeech", "common-voice", "audioset", "esc50", "speech-commands", "timit", "ljspeech"} <= set(kinds)
    assert "LibriSpeech or LibriTTS" in otoscope("corpus", "kinds").out


def test_a_split_is_shown_and_imported_under_its_name(speech: Path, tmp_path: Path) -> None:
    assert otoscope("corpus", "show", speech, "--json").json["clips"] == 6
    shown = otoscope("corpus", "show", speech, "--split", "test-clean")
    assert shown.out.splitlines()[0] == "LibriSpeech: 3 clips, 0.9 s of sound, 1 speaker (61), tiers: none"
    assert otoscope("corpus", "show", speech, "--kind", "folder", "--json").json["listed"][0]["text"] is None
    done = otoscope("corpus", "import", speech, "--split", "dev-clean", "--workspace", tmp_path / "ws", "--json").json
    assert (done["name"], done["clips"], done["problems"]) == ("librispeech-dev-clean", 3, [])
    assert Workspace.open(tmp_path / "ws").corpus("librispeech-dev-clean").speakers == ["84"]
    again = otoscope("corpus", "show", "librispeech-dev-clean", "--workspace", tmp_path / "ws", "--json").json
    assert again["clips"] == 3
    assert "did you mean dev-clean" in refused("corpus", "show", speech, "--split", "dev-clear")
    assert "did you mean librispeech" in refused("corpus", "show", speech, "--kind", "librispech")


def test_missing_recordings_are_refused_or_left_out_by_name(speech: Path, tmp_path: Path) -> None:
    for path in speech.rglob("*-0001.flac"):
        path.unlink()
    sentence = refused("corpus", "import", speech, "--workspace", tmp_path / "ws")
    assert "84-1.trans.txt, line 2: the recording of '84-1-0001' is missing (and 1 more)" in sentence
    assert "--on-error skip" in sentence
    done = otoscope("corpus", "import", speech, "--on-error", "skip", "--workspace", tmp_path / "ws")
    assert (done.code, "4 clips" in done.out) == (0, True)
    places = [line.split()[0].rstrip(",") for line in done.err.splitlines()]
    assert places == [
        "!",
        str(speech / "dev-clean/84/1/84-1.trans.txt"),
        str(speech / "test-clean/61/1/61-1.trans.txt"),
    ]
    listed = otoscope("corpus", "show", speech, "--on-error", "skip", "--json").json["problems"]
    assert [row["clip_id"] for row in listed] == ["84-1-0001", "61-1-0001"]
    assert "--on-error must be raise or skip, not 'ignore'" in refused("corpus", "show", speech, "--on-error", "ignore")


def test_check_names_every_clip_that_cannot_be_decoded(speech: Path, tmp_path: Path) -> None:
    assert "6 clips can be decoded" in otoscope("corpus", "show", speech, "--check").out
    bad = speech / "dev-clean/84/1/84-1-0002.flac"
    bad.write_bytes(bad.read_bytes()[:200])
    stopped = otoscope("corpus", "show", speech, "--check")
    assert stopped.code == 1
    assert "84-1-0002.flac" in stopped.err
    assert "1 of 6 clips of LibriSpeech cannot be used" in stopped.err
    done = otoscope(
        "corpus", "import", speech, "--check", "--on-error", "skip", "--workspace", tmp_path / "ws", "--json"
    )
    assert (done.json["clips"], done.json["problems"][0]["clip_id"]) == (5, "84-1-0002")


def test_labels_of_a_tree_of_their_own_come_in_and_go_out(speech: Path, tmp_path: Path) -> None:
    aligned = tmp_path / "aligned"
    aligned.mkdir()
    (aligned / "84-1-0000.json").write_text(json.dumps({"words": [[0, 0.1, "word"], [0.1, 0.3, "zero"]]}))
    out = tmp_path / "ctm"
    done = otoscope("corpus", "export-labels", speech, out, "--labels", aligned, "--format", "ctm")
    assert done.out.strip() == f"✓ 1 file in {out}: words.ctm"
    assert (out / "words.ctm").read_text().splitlines()[1] == "84-1-0000 1 0.10 0.20 zero"
    assert "is not an empty folder" in refused("corpus", "export-labels", speech, out, "--labels", aligned)
    assert "no labels to export" in refused("corpus", "export-labels", speech, tmp_path / "none")
    rows = otoscope("corpus", "export-labels", speech, tmp_path / "grids", "--labels", out / "words.ctm", "--json").json
    assert rows["files"] == ["84-1-0000.TextGrid"]


def test_many_problems_are_counted_and_a_few_named(speech: Path) -> None:
    for path in speech.rglob("*.flac"):
        if path.name != "84-1-0000.flac":
            path.unlink()
    folder = speech / "dev-clean/84/1"
    with open(folder / "84-1.trans.txt", "a", encoding="utf-8") as file:
        file.write("".join(f"84-1-{n:04d} WORD\n" for n in range(10, 20)))
    done = otoscope("corpus", "show", speech, "--on-error", "skip")
    lines = done.err.splitlines()
    assert lines[0] == "! 15 items left out:"
    assert lines[-1].strip() == "… and 10 more (--json lists all)"
    assert len(lines) == 7
