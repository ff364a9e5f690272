"""The atlas that search is timed on is made by the code that makes all others, and can be searched."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from otoscope.atlas import Atlas

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_small_generated_atlas_opens_whole_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    generated = importlib.import_module("generated_atlas")
    folder = generated.make(generated.Size(600, n_clips=12, clip_frames=120, n_sounds=20), tmp_path)
    atlas = Atlas.open(folder)
    atlas.verify()
    assert (len(atlas), len(atlas.clip_ids)) == (600, 12)
    assert (atlas.column("label_share") == 1).all()
    assert (atlas.column("cofiring")[:, 0] >= 0).any()
    feature = int(atlas.column("n_active").argmax())
    top = float(atlas.column("max")[feature])
    strong = atlas.frames_in_range(feature, top / 2, top)
    values = atlas[feature].entries.values
    assert len(values) == atlas.column("n_active")[feature]
    assert strong.n_frames == (values >= top / 2).sum() > 0
