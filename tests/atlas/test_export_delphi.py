"""The cache written for delphi holds every entry of the atlas; `make interop` reads it with delphi's own code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from planted_world import M, World
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from otoscope.atlas import Atlas
from otoscope.atlas.exports import delphi
from otoscope.atlas.exports.delphi import SOUND, export_delphi
from otoscope.atlas.exports.frame_labels import PAUSE
from otoscope.audio import Corpus
from otoscope.errors import InputError

LENGTH = 64


@pytest.fixture(scope="module")
def written(atlas: Atlas, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_delphi(atlas, world.corpus, tmp_path_factory.mktemp("delphi") / "cache", length=LENGTH, splits=3)


def test_files_are_cut_by_features_and_hold_every_entry(written: Path, atlas: Atlas) -> None:
    found: dict[int, list[tuple[int, int, float]]] = {}
    edges = sorted(tuple(map(int, path.stem.split("_"))) for path in written.glob("*.safetensors"))
    assert [first for first, _ in edges] == [0, *(last + 1 for _, last in edges[:-1])]
    assert edges[-1][1] == len(atlas) - 1
    for first, last in edges:
        part = load_file(written / f"{first}_{last}.safetensors")
        assert part["locations"].dtype == np.uint16
        assert part["activations"].dtype == np.float16
        assert part["locations"][:, 2].max(initial=0) <= last - first
        for (row, place, feature), value in zip(part["locations"].tolist(), part["activations"], strict=True):
            found.setdefault(feature + first, []).append((row, place, float(value)))
    rows_before = np.concatenate(([0], np.cumsum(-(-np.diff(atlas.clips.bounds) // LENGTH))))
    for feature in range(len(atlas)):
        frames, values = atlas.postings[feature]
        clip = atlas.clips.of(frames)
        row, place = np.divmod(frames - atlas.clips.starts[clip], LENGTH)
        theirs = np.array(found.get(feature, [])).reshape(-1, 3)
        assert np.array_equal(theirs[:, 0], rows_before[clip] + row)
        assert np.array_equal(theirs[:, 1], place)
        assert np.allclose(theirs[:, 2], values, rtol=1e-3, atol=1e-6)


def test_a_token_is_the_phone_that_its_frame_lies_in(written: Path, world: World, atlas: Atlas) -> None:
    tokens = load_file(next(written.glob("0_*.safetensors")))["tokens"]
    tokenizer = Tokenizer.from_file(str(written / "tokenizer.json"))
    row = 0
    for clip, n_frames in zip(world.corpus, np.diff(atlas.clips.bounds).tolist(), strict=True):
        n_rows = -(-n_frames // LENGTH)
        said = [tokenizer.id_to_token(token).strip() for token in tokens[row : row + n_rows].reshape(-1)]
        row += n_rows
        assert set(said[n_frames:]) <= {"<pad>"}
        for frame, name in enumerate(said[:n_frames]):
            time_s = atlas.clock.time_s(frame)
            phones = [p.label for p in clip.tier("phones") if p.start_s <= time_s < p.end_s]
            assert name == (phones[0] if phones else PAUSE if clip.tier("phones") else SOUND)
    assert row == len(tokens)
    peak = atlas[M].examples("top", 1)[0]
    assert peak.clip_id.startswith("speech"), "the control: it is the phones that are looked at"


def test_the_settings_say_what_delphi_asks_for(written: Path, world: World) -> None:
    said = json.loads((written / "config.json").read_text("utf-8"))
    assert (said["cache_ctx_len"], said["n_splits"], said["dataset_repo"]) == (LENGTH, 3, world.corpus.name)
    assert written.name == world.dictionary.site


def test_what_cannot_be_written_is_refused(
    atlas: Atlas, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="at least 8 frames"):
        export_delphi(atlas, world.corpus, tmp_path / "out", length=1)
    with pytest.raises(InputError, match="another corpus"):
        export_delphi(atlas, Corpus("half", list(world.corpus)[:5]), tmp_path / "out")
    monkeypatch.setattr(delphi, "LARGEST", 1.0)
    with pytest.raises(InputError, match="float16"):
        export_delphi(atlas, world.corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()
