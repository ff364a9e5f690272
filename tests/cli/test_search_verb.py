"""Searching by sound, by value, by combination and by nature from the command line gives what the atlas gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import otoscope

from otoscope.audio import Corpus
from otoscope.workspace import Workspace


def refused(*words: object) -> str:
    """Return the one sentence with which a command was refused."""
    done = otoscope(*words)
    assert done.code == 2, done.out
    assert len(done.err.strip().splitlines()) == 1, done.err
    return done.err


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
