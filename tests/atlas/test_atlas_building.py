"""However an atlas comes about — at once, interrupted, killed, from an older one — it has the same bytes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from planted_world import SITE, PlantedModel, World, plant

from otoscope.atlas import Atlas, build_atlas, build_atlases
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary, Neurons, RandomBasis
from otoscope.errors import InputError, OtoscopeError
from otoscope.storage.locks import only_one

SPARSE = RandomBasis(SITE, 8, 32, seed=0, k=3, name="sparse")


@pytest.fixture(scope="module")
def small() -> World:
    return plant(seed=1, n_speech=12, n_sounds=4)


def counting(world: World) -> PlantedModel:
    """The model of a world, which counts its reads anew."""
    return dataclasses.replace(world.model, reads=[])


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def fresh(world: World, dictionary: Dictionary, corpus: Corpus, folder: Path) -> dict[str, bytes]:
    return bytes_of(build_atlas(world.model, dictionary, corpus, folder, n_shifts=2, progress=False).folder)


def test_processes_killed_at_any_moment_leave_what_a_second_one_finishes(tmp_path: Path) -> None:
    """Two dictionaries at once; `killed_builds.py FOLDER 1` tries every moment, here is a sample."""
    script = Path(__file__).with_name("killed_builds.py")
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "61"], capture_output=True, text=True, check=True, env=os.environ
    )
    found = json.loads(run.stdout)
    assert found["moments"] > 150
    assert found["files"] > 20
    assert found["differing"] == []


def test_an_interrupted_build_goes_on_where_it_was(
    small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otoscope.atlas.building.code_pass.PART_FRAMES", 500)
    expected = fresh(small, SPARSE, small.corpus, tmp_path / "fresh")
    model = counting(small)
    with pytest.raises(KeyboardInterrupt):
        build_atlas(model, SPARSE, small.corpus, tmp_path / "atlas", n_shifts=2, progress=_stop_at("encode", 10))
    assert not (tmp_path / "atlas").exists()
    before, model.reads = len(model.reads), []
    with pytest.raises(KeyboardInterrupt):  # the pass over the frames is done now, the labels are not
        build_atlas(model, SPARSE, small.corpus, tmp_path / "atlas", n_shifts=2, progress=_stop_at("index and label"))
    assert len(small.corpus) - before <= len(model.reads) < len(small.corpus)
    model.reads = []
    resumed = build_atlas(model, SPARSE, small.corpus, tmp_path / "atlas", n_shifts=2, progress=False)
    assert model.reads == []
    assert bytes_of(resumed.folder) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["atlas", "fresh"]


@pytest.mark.parametrize("harm", ["missing", "changed"])
def test_a_part_that_was_lost_meanwhile_is_encoded_again(
    small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr("otoscope.atlas.building.code_pass.PART_FRAMES", 500)
    expected = fresh(small, SPARSE, small.corpus, tmp_path / "fresh")
    model = counting(small)
    with pytest.raises(KeyboardInterrupt):
        build_atlas(model, SPARSE, small.corpus, tmp_path / "atlas", n_shifts=2, progress=_stop_at("index and label"))
    part = tmp_path / ".atlas.building" / "codes" / "00001.safetensors"
    data = part.read_bytes()
    part.unlink()
    if harm == "changed":
        part.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    model.reads = []
    again = build_atlas(model, SPARSE, small.corpus, tmp_path / "atlas", n_shifts=2, progress=False)
    assert 0 < len(model.reads) < len(small.corpus)
    assert bytes_of(again.folder) == expected


def _stop_at(stage: str, done: int = 0):  # type: ignore[no-untyped-def]
    def report(now: str, so_far: int, total: int) -> None:
        if now == stage and so_far >= done:
            raise KeyboardInterrupt

    return report


def test_an_interrupted_build_of_something_else_is_not_continued(small: World, tmp_path: Path) -> None:
    expected = fresh(small, small.dictionary, small.corpus, tmp_path / "fresh")
    with pytest.raises(KeyboardInterrupt):
        build_atlas(
            small.model,
            Neurons(SITE, 8, name="x"),
            small.corpus[:9],
            tmp_path / "a",
            progress=_stop_at("index and label"),
        )
    assert fresh(small, small.dictionary, small.corpus, tmp_path / "a") == expected


def test_dictionaries_together_give_the_bytes_of_each_alone(small: World, tmp_path: Path) -> None:
    alone = [fresh(small, each, small.corpus, tmp_path / each.name) for each in (small.dictionary, SPARSE)]
    model = counting(small)
    to = [tmp_path / "one", tmp_path / "two"]
    found = build_atlases(model, [small.dictionary, SPARSE], small.corpus, to, n_shifts=2, progress=False)
    assert [bytes_of(atlas.folder) for atlas in found] == alone
    assert sorted(model.reads) == sorted(clip.clip_id for clip in small.corpus)  # the pilot's clips not twice
    with pytest.raises(InputError, match="one folder"):
        build_atlases(model, [small.dictionary, SPARSE], small.corpus, [to[0], to[0]], progress=False)


def test_of_a_corpus_that_grew_only_new_clips_are_encoded(small: World, tmp_path: Path) -> None:
    fresh(small, SPARSE, small.corpus[:9], tmp_path / "a")
    model = counting(small)
    grown = build_atlas(model, SPARSE, small.corpus, tmp_path / "a", n_shifts=2, progress=False)
    assert model.reads == [clip.clip_id for clip in small.corpus[9:]]
    assert bytes_of(grown.folder) == fresh(small, SPARSE, small.corpus, tmp_path / "fresh")


def test_clips_that_left_or_moved_cost_nothing(small: World, tmp_path: Path) -> None:
    fresh(small, SPARSE, small.corpus, tmp_path / "a")
    model = counting(small)
    moved = Corpus("moved", [small.corpus[i] for i in (7, 3, 12, 0, 5, 15)])
    changed = build_atlas(model, SPARSE, moved, tmp_path / "a", n_shifts=2, progress=False)
    assert model.reads == []
    assert bytes_of(changed.folder) == fresh(small, SPARSE, moved, tmp_path / "fresh")


def test_a_clip_whose_sound_changed_is_encoded_again(small: World, tmp_path: Path) -> None:
    fresh(small, SPARSE, small.corpus, tmp_path / "a")
    model = counting(small)
    first = small.corpus[0]
    changed = dataclasses.replace(first, source=np.append(first.samples(), np.float32(0.5)), sha256=None)
    corpus = Corpus("planted", [changed, *small.corpus[1:]])
    build_atlas(model, SPARSE, corpus, tmp_path / "a", n_shifts=2, progress=False)
    assert model.reads == [first.clip_id]


def test_codes_of_another_dictionary_or_model_are_not_taken(small: World, tmp_path: Path) -> None:
    fresh(small, SPARSE, small.corpus, tmp_path / "a")
    other_model = dataclasses.replace(small.model, reads=[], weights_hash="1" * 64)
    build_atlas(other_model, SPARSE, small.corpus, tmp_path / "a", n_shifts=2, progress=False)
    assert len(other_model.reads) == len(small.corpus)
    other_model.reads = []
    other = RandomBasis(SITE, 8, 32, seed=1, k=3, name="sparse")
    build_atlas(other_model, other, small.corpus, tmp_path / "a", n_shifts=2, progress=False)
    assert len(other_model.reads) == len(small.corpus)


def test_neurons_are_updated_while_the_clips_that_set_their_floors_stay(
    small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otoscope.atlas.building import floors

    for module in ("floors", "reuse"):
        monkeypatch.setattr(f"otoscope.atlas.building.{module}.PILOT_FRAMES", 300)
    ranked = floors.pilot_order(small.corpus)
    kept = Corpus("planted", [small.corpus[i] for i in sorted(ranked[:12])])
    fresh(small, small.dictionary, kept, tmp_path / "a")
    model = counting(small)
    grown = build_atlas(model, small.dictionary, small.corpus, tmp_path / "a", n_shifts=2, progress=False)
    assert sorted(model.reads) == sorted(small.corpus[i].clip_id for i in ranked[12:])
    expected = fresh(small, small.dictionary, small.corpus, tmp_path / "fresh")
    assert bytes_of(grown.folder) == expected

    without = Corpus("planted", [small.corpus[i] for i in ranked[1:]])  # the clip that decides most is gone
    fresh(small, small.dictionary, without, tmp_path / "b")
    model = counting(small)
    again = build_atlas(model, small.dictionary, small.corpus, tmp_path / "b", n_shifts=2, progress=False)
    assert sorted(model.reads) == sorted(clip.clip_id for clip in small.corpus)
    assert bytes_of(again.folder) == expected


def test_floors_do_not_depend_on_the_order_of_the_clips(small: World, tmp_path: Path) -> None:
    turned = Corpus("planted", list(small.corpus)[::-1])
    atlases = [
        build_atlas(small.model, small.dictionary, corpus, n_shifts=2, progress=False)
        for corpus in (small.corpus, turned)
    ]
    floors, turned_floors = (atlas.column("postings_from") for atlas in atlases)
    assert (floors == turned_floors).all()
    assert floors.any()


def test_a_second_writer_is_refused_in_one_sentence(small: World, tmp_path: Path) -> None:
    with (
        only_one(tmp_path / ".a.lock", "building a"),
        pytest.raises(OtoscopeError, match=r"^Another otoscope \(process \d+.*building.*wait for it to finish\.$"),
    ):
        build_atlas(small.model, SPARSE, small.corpus, tmp_path / "a", n_shifts=2, progress=False)
    fresh(small, SPARSE, small.corpus[:4], tmp_path / "a")


def test_a_damaged_atlas_lends_no_codes(small: World, tmp_path: Path) -> None:
    expected = fresh(small, SPARSE, small.corpus, tmp_path / "a")
    codes = tmp_path / "a" / "codes" / "00000.safetensors"
    data = codes.read_bytes()
    codes.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert fresh(small, SPARSE, small.corpus, tmp_path / "a") == expected


def test_a_folder_that_is_no_atlas_is_never_replaced(small: World, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="no atlas"):
        build_atlas(small.model, SPARSE, small.corpus, tmp_path / "a", progress=False)
    assert (tmp_path / "a" / "thesis.txt").read_text() == "years of work"


def test_an_atlas_of_the_first_version_is_built_again(small: World, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "meta.json").write_text('{"format": "otoscope-atlas", "version": 1}')
    with pytest.raises(OtoscopeError, match=r"version 1.*build it again"):
        Atlas.open(tmp_path / "a")
    assert len(fresh(small, SPARSE, small.corpus[:4], tmp_path / "a")) > 5
