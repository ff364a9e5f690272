"""The index: statistics, examples and postings are what the frames say."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_world import ALWAYS, DEAD, SITE, STEPS, M, World

from otoscope.atlas import Atlas, build_atlas
from otoscope.dictionaries import Dictionary, Neurons, RandomBasis
from otoscope.errors import InputError, OtoscopeError


def encoded(world: World, dictionary: Dictionary) -> tuple[np.ndarray, np.ndarray]:
    """All frames of the corpus as features `[t, n]`, and the clip of each."""
    frames = [world.model.frames[clip.clip_id] for clip in world.corpus]
    code = dictionary.encode(torch.from_numpy(np.concatenate(frames)))
    return code.dense().numpy(), np.repeat(np.arange(len(frames)), [len(each) for each in frames])


@pytest.fixture(scope="module")
def values(world: World) -> np.ndarray:
    return encoded(world, world.dictionary)[0]


@pytest.fixture(scope="module")
def clip_of(world: World) -> np.ndarray:
    return encoded(world, world.dictionary)[1]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_statistics_are_what_numpy_says(atlas: Atlas, values: np.ndarray, clip_of: np.ndarray) -> None:
    """Counts, means and maxima are exact though weak frames are not kept; what lies below the floor is so to a bin."""
    for i, row in atlas.features.iterrows():
        active = values[:, i][values[:, i] > 0]
        assert row["n_active"] == len(active)
        assert row["density"] == pytest.approx(len(active) / len(values))
        assert row["dead"] == (len(active) == 0)
        if len(active):
            assert row["max"] == active.max()
            assert row["mean"] == pytest.approx(active.mean(dtype=np.float64), rel=1e-6)
            assert row["q90"] == pytest.approx(np.quantile(active, 0.9), rel=1e-5)
            for q in (0.25, 0.5, 0.75):
                assert row[f"q{round(100 * q)}"] == pytest.approx(np.quantile(active, q), rel=0.1)
            assert row["clip_share"] == len(np.unique(clip_of[values[:, i] > 0])) / len(np.unique(clip_of))
            assert row["dense_share"] == pytest.approx(
                (values[:, i] >= np.float32(0.1) * active.max()).mean(), abs=0.01
            )
        edges, counts = atlas[i].histogram
        assert counts.sum() == len(active)
        strong = edges[:-1] > row["postings_from"]
        if len(active):
            assert abs(counts - np.histogram(active, edges)[0])[strong].sum() <= 2


def test_top_examples_are_the_strongest_frame_of_different_clips(
    atlas: Atlas, world: World, values: np.ndarray, clip_of: np.ndarray
) -> None:
    starts = np.searchsorted(clip_of, np.arange(len(world.corpus)))
    peaks = sorted(
        ((-values[clip_of == c, M].max(), int(values[clip_of == c, M].argmax()), c) for c in range(len(world.corpus))),
        key=lambda peak: (peak[0], starts[peak[2]] + peak[1]),
    )
    examples = atlas[M].examples("top", 10)
    assert [(e.clip_id, e.frame) for e in examples] == [(world.corpus[c].clip_id, t) for _, t, c in peaks[:10]]
    assert [e.time_s for e in examples] == pytest.approx([0.02 * e.frame for e in examples])


def test_no_clip_appears_twice_among_examples_of_a_kind(atlas: Atlas) -> None:
    for kind in ("top", "random"):
        ids = [e.clip_id for e in atlas[M].examples(kind, 99)]
        assert len(ids) == len(set(ids)) > 5
    bands = [(e.decile, e.clip_id) for e in atlas[M].examples("decile", 99)]
    assert len(bands) == len(set(bands)) > 15


def test_decile_examples_lie_in_their_tenth_of_the_range(atlas: Atlas, values: np.ndarray) -> None:
    top = atlas[M].stats["max"]
    active = values[:, M][values[:, M] > 0]
    kept = active[active > atlas[M].stats["postings_from"]]
    occupied = set((np.ceil(kept / top * 10) - 1).astype(int).tolist())
    examples = atlas[M].examples("decile", 99)
    assert {e.decile for e in examples} == occupied
    for e in examples:
        assert e.decile * top / 10 <= e.value <= (e.decile + 1) * top / 10
    assert {e.decile for e in atlas[M].examples("decile", len(occupied))} == occupied


def test_ties_go_to_the_earlier_frame(atlas: Atlas, values: np.ndarray, clip_of: np.ndarray) -> None:
    tied = [e for e in atlas[STEPS].examples("top", 20) if e.value == 3.0]
    first = [int(np.flatnonzero((clip_of == c) & (values[:, STEPS] == 3))[0]) for c in range(20)]
    starts = np.searchsorted(clip_of, np.arange(20))
    assert [e.frame for e in tied] == [frame - start for frame, start in zip(first, starts, strict=True)]


def test_examples_hold_the_values_of_their_frames(atlas: Atlas, world: World) -> None:
    for kind in ("top", "decile", "random"):
        for e in atlas[M].examples(kind, 99):
            assert e.value == world.model.frames[e.clip_id][e.frame, M]


def test_a_dead_feature_says_so_and_breaks_nothing(atlas: Atlas) -> None:
    entry = atlas[DEAD]
    assert entry.stats["dead"]
    assert entry.stats["label"] is None
    assert entry.examples() == []
    assert len(entry.postings()[0]) == len(entry.labels) == entry.histogram[1].sum() == 0
    assert DEAD not in atlas.find(limit=None).index
    assert "no label" in repr(entry)


def test_dense_postings_hold_every_frame_above_their_floor(
    atlas: Atlas, values: np.ndarray, clip_of: np.ndarray
) -> None:
    starts = np.searchsorted(clip_of, np.arange(clip_of.max() + 1))
    for i in (M, ALWAYS, STEPS, DEAD):
        clip, frame, value = atlas[i].postings()
        kept = np.flatnonzero(values[:, i] > atlas[i].stats["postings_from"])
        assert (starts[clip] + frame == kept).all()
        assert (value == values[kept, i]).all()


def test_a_floor_keeps_an_eighth_of_the_frames_and_ties_together(atlas: Atlas, values: np.ndarray) -> None:
    for i in (M, ALWAYS):
        assert len(values) / 8 <= len(atlas[i].postings()[0]) <= len(values) / 8 * 1.25
    assert len(atlas[STEPS].postings()[0]) == (values[:, STEPS] == 3).sum()  # a quarter of all frames has this value


def test_sparse_postings_hold_every_active_frame(world: World) -> None:
    """So that a frame of middling strength can be found, not only each clip's peak."""
    sparse = RandomBasis(SITE, 8, 32, seed=0, k=3)
    values, clip_of = encoded(world, sparse)
    atlas = build_atlas(world.model, sparse, world.corpus, progress=False)
    starts = np.searchsorted(clip_of, np.arange(clip_of.max() + 1))
    for i in range(32):
        clip, frame, value = atlas[i].postings()
        assert (starts[clip] + frame == np.flatnonzero(values[:, i] > 0)).all()
        assert value == pytest.approx(values[values[:, i] > 0, i])
        middle = (value > 0.4 * values[:, i].max()) & (value < 0.6 * values[:, i].max())
        assert (
            middle.sum()
            == ((values[:, i] > 0.4 * values[:, i].max()) & (values[:, i] < 0.6 * values[:, i].max())).sum()
        )


def test_a_clip_knows_the_features_that_stand_out_in_it(atlas: Atlas, world: World) -> None:
    siren = next(clip for clip in world.corpus if clip.attributes.get("sound_class") == "siren")
    peaks = atlas.clip_peaks(siren.clip_id, top=4)
    assert len(peaks) == 4
    assert (peaks["score"].diff().dropna() <= 0).all()
    best, frames = peaks.iloc[0], world.model.frames[siren.clip_id]
    assert best["value"] == max(np.concatenate([frames, -frames], axis=1)[:, int(best["feature"])])
    with pytest.raises(InputError, match="speech-00"):
        atlas.clip_peaks("speach-00")


def test_the_same_inputs_give_the_same_bytes(atlas: Atlas, world: World, tmp_path: Path) -> None:
    again = build_atlas(world.model, world.dictionary, world.corpus, tmp_path / "again", progress=False)
    assert bytes_of(again.folder) == bytes_of(atlas.folder)
    other = build_atlas(world.model, world.dictionary, world.corpus, tmp_path / "other", seed=1, progress=False)
    assert bytes_of(other.folder) != bytes_of(atlas.folder)


@pytest.mark.parametrize("harm", ["cut", "missing", "version", "not json"])
def test_a_damaged_atlas_is_refused_in_one_sentence(atlas: Atlas, tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "atlas"
    shutil.copytree(atlas.folder, folder)
    path = folder / "postings" / "00000.safetensors"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-4])
    elif harm == "missing":
        path.unlink()
    elif harm == "version":
        (folder / "meta.json").write_text('{"format": "otoscope-atlas", "version": 1}')
    else:
        (folder / "meta.json").write_text("{")
    with pytest.raises(OtoscopeError) as caught:
        Atlas.open(folder)
    assert "\n" not in str(caught.value)
    if harm == "version":
        assert "version 1" in str(caught.value)


def test_a_dictionary_that_does_not_fit_is_refused_before_any_work(world: World, tmp_path: Path) -> None:
    model = dataclasses.replace(world.model, reads=[])
    with pytest.raises(InputError, match="width 5"):
        build_atlas(model, Neurons(SITE, 5), world.corpus, tmp_path / "a", progress=False)
    assert model.reads == list(tmp_path.iterdir()) == []


def test_an_atlas_without_a_folder_lives_as_long_as_it_is_held(world: World) -> None:
    atlas = build_atlas(world.model, world.dictionary, world.corpus[:8], progress=False)
    folder = atlas.folder
    assert atlas[M].examples("top", 1)
    del atlas
    assert not folder.exists()


def test_it_prints_what_it_is(atlas: Atlas) -> None:
    assert repr(atlas).startswith("Atlas('units': 16 features of encoder.1.mlp.post over corpus 'planted', 72 clips")
    assert "detects phone 'm'" in repr(atlas[M])
    with pytest.raises(InputError, match="from 0 to 15"):
        atlas[16]
