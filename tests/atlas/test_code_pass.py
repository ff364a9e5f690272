"""The pass over the clips: what it writes does not depend on how much of it is held in memory at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from otoscope.atlas.building import code_pass, transposing
from otoscope.atlas.building.code_pass import CodeWriter
from otoscope.atlas.building.transposing import transposed
from otoscope.atlas.codes import FrameCode


def some_code(rng: np.random.Generator, n_frames: int, n_features: int) -> FrameCode:
    """A code whose frames have none, some or all features."""
    dense = rng.random((n_frames, n_features)) < rng.random((n_frames, 1)) ** 2
    dense &= rng.random(n_features) < 0.7
    frames, features = np.nonzero(dense)
    indptr = np.searchsorted(frames, np.arange(n_frames + 1))
    return FrameCode(indptr, features.astype(np.uint32), rng.random(len(frames), dtype=np.float32))


def test_parts_hold_the_clips_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_pass, "PART_FRAMES", 50)
    rng = np.random.default_rng(0)
    clips = [some_code(rng, n, 20) for n in (30, 0, 19, 1, 70, 3, 4)]
    measures = [rng.random((clip.n_frames, 4), dtype=np.float32) for clip in clips]
    writer = CodeWriter(tmp_path, "key", n_features=20, dense=False)
    for clip, measured in zip(clips, measures, strict=True):
        writer.append(clip, measured)
    assert [part["n_clips"] for part in writer.close()] == [4, 1, 2]
    for number, cut in enumerate((slice(0, 4), slice(4, 5), slice(5, 7))):
        part, expected = writer.part(number), FrameCode.joined(clips[cut])
        for name in FrameCode._fields:
            np.testing.assert_array_equal(part.read(name), getattr(expected, name))
        np.testing.assert_array_equal(part.read("measures"), np.concatenate(measures[cut]))
    assert {path.name for path in tmp_path.iterdir()} == {"codes", "journal.jsonl"}


@pytest.mark.parametrize("run", [1, 7, 100, 10**6])
def test_entries_by_feature_are_those_of_a_stable_sort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: int
) -> None:
    monkeypatch.setattr(transposing, "RUN_ENTRIES", run)
    rng = np.random.default_rng(1)
    clips = [some_code(rng, n, 20) for n in (60, 1, 25)]
    monkeypatch.setattr(code_pass, "PART_FRAMES", 1)
    writer = CodeWriter(tmp_path, "key", n_features=20, dense=False)
    for clip in clips:
        writer.append(clip, np.zeros((clip.n_frames, 4), np.float32))
    parts = [(part["first_frame"], writer.part(number)) for number, part in enumerate(writer.close())]
    turned = transposed(parts, tmp_path / "turned", 20)
    whole = FrameCode.joined(clips)
    order = np.argsort(whole.features, kind="stable")
    blocks = list(turned.blocks(max_entries=150))
    turned.close()
    assert len(blocks) > 1
    counts = np.concatenate([np.diff(block.indptr) for block in blocks])
    np.testing.assert_array_equal(counts, np.bincount(whole.features, minlength=20))
    np.testing.assert_array_equal(turned.counts, counts)
    np.testing.assert_array_equal(np.concatenate([block.frames for block in blocks]), whole.frame_of_entry()[order])
    np.testing.assert_array_equal(np.concatenate([block.values for block in blocks]), whole.values[order])
