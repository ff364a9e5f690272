"""The pass over the clips: what it writes does not depend on how much of it is held in memory at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from otoscope.atlas.building import code_pass, transposing
from otoscope.atlas.building.code_pass import CodeWriter, frame_code, plain_code, sides_code
from otoscope.atlas.building.floors import FloorFinder
from otoscope.atlas.building.totals import Totals
from otoscope.atlas.building.transposing import transposed
from otoscope.atlas.codes import FrameCode
from otoscope.dictionaries import Neurons, SparseCode


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
    monkeypatch.setattr(transposing, "BLOCK_ENTRIES", 150)
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
    blocks = list(turned.blocks())
    turned.close()
    assert len(blocks) > 1
    counts = np.concatenate([np.diff(block.indptr) for block in blocks])
    np.testing.assert_array_equal(counts, np.bincount(whole.features, minlength=20))
    np.testing.assert_array_equal(turned.counts, counts)
    np.testing.assert_array_equal(np.concatenate([block.frames for block in blocks]), whole.frame_of_entry()[order])
    np.testing.assert_array_equal(np.concatenate([block.values for block in blocks]), whole.values[order])


@pytest.mark.parametrize("seed", range(6))
def test_neurons_are_kept_and_counted_as_their_code_says(seed: int) -> None:
    """Zeros of both signs, infinities, what is no number, and magnitudes of all sizes."""
    rng = np.random.default_rng(seed)
    d = (1, 5, 64, 65, 130, 200)[seed]
    neurons = Neurons("encoder.0.mlp.post", d)
    floors = np.where(rng.random(2 * d) < 0.3, 0, 10.0 ** rng.integers(-20, 20, 2 * d)).astype(np.float32)
    floors[0] = 1
    of_code, of_frames = Totals.of_none(2 * d), Totals.of_none(2 * d)
    pilots = FloorFinder(2 * d), FloorFinder(2 * d)
    for n_frames in (150, 0, 64):
        frames = (rng.normal(size=(n_frames, d)) * 10.0 ** rng.integers(-40, 30)).astype(np.float32)
        for value in (0.0, -0.0, np.nan, -np.nan):
            frames[rng.random(frames.shape) < 0.1] = value
        frames[:1] = np.inf if n_frames == 64 else floors[:d]
        code = neurons.encode(torch.from_numpy(frames))
        expected = frame_code(code, floors, of_code)
        for found in (sides_code(frames, floors), sides_code(frames, floors, of_frames)):
            for name in FrameCode._fields:
                one, other = getattr(found, name), getattr(expected, name)
                assert one.dtype == other.dtype
                assert one.tobytes() == other.tobytes()
        pilots[0].add(*plain_code(code))
        pilots[1].add_sides(frames)
    for name, counted in vars(of_code).items():
        np.testing.assert_array_equal(getattr(of_frames, name), counted)
    np.testing.assert_array_equal(pilots[0].floors(), pilots[1].floors())


@pytest.mark.parametrize("k", [1, 2, 31, 128, 129])
def test_features_ascend_within_every_frame(k: int) -> None:
    """In whatever order a code has them, and if one has a feature twice, which none should."""
    rng = np.random.default_rng(k)
    indices = rng.random((40, 300)).argsort(axis=1)[:, :k].astype(np.int32)
    indices[20:] //= 2
    values = np.maximum(rng.normal(1, 1, (40, k)), 0).astype(np.float32)
    found = frame_code(SparseCode(torch.from_numpy(values), torch.from_numpy(indices), 300))
    for t in range(40):
        kept = values[t] > 0
        order = np.lexsort((values[t][kept].view(np.uint32), indices[t][kept]))
        frame = found.part(t, t + 1)
        np.testing.assert_array_equal(frame.features, indices[t][kept][order])
        np.testing.assert_array_equal(frame.values, values[t][kept][order])
