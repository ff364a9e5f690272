"""Damaged atlases: what is damaged is named, made again from what is whole, and byte for byte what it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from planted_world import SITE, World

from otoscope.atlas import Atlas, build_atlas
from otoscope.atlas.building import code_pass, indexing
from otoscope.atlas.building.repairing import Find, Materials, contents, find_damage, repair_atlas
from otoscope.audio import Corpus
from otoscope.dictionaries import RandomBasis
from otoscope.errors import OtoscopeError
from otoscope.storage.arrays import ArrayFile
from otoscope.storage.locks import only_one

SPARSE = RandomBasis(SITE, 8, 32, seed=0, k=3, name="sparse")


@pytest.fixture(scope="module")
def in_parts() -> Iterator[None]:
    """Parts small enough that an atlas of minutes has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_pass, "PART_FRAMES", 3000)
        patch.setattr(indexing, "PART_ENTRIES", 8000)
        yield


@pytest.fixture(scope="module")
def sparse(world: World, in_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    folder = tmp_path_factory.mktemp("whole") / "sparse"
    return build_atlas(world.model, SPARSE, world.corpus, folder, progress=False)


@pytest.fixture
def copy(sparse: Atlas, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sparse.folder, tmp_path / "sparse"))


@pytest.fixture
def find(world: World) -> Find:
    return lambda meta: Materials(SPARSE, world.corpus, lambda: world.model)


def flip(path: Path, where: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1
    path.write_bytes(data)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def marks_of(folder: Path) -> dict[str, tuple[int, int]]:
    """What tells whether a file was written again."""
    found = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (stat.st_ino, stat.st_mtime_ns) for path, stat in found}


def refuse(meta: dict) -> Materials:
    raise AssertionError("the atlas itself suffices")


def test_there_are_several_parts(sparse: Atlas) -> None:
    assert len(sparse.meta["codes"]["parts"]) > 2
    assert len(sparse.meta["postings"]["parts"]) > 2
    assert find_damage(sparse.folder) == []


@pytest.mark.parametrize(
    ("name", "where", "how"),
    [
        ("codes/00001.safetensors", 0.0, "from the postings"),
        ("codes/00001.safetensors", 0.4, "from the postings"),
        ("postings/00000.safetensors", 0.5, "from the codes"),
        ("postings/00002.safetensors", 0.999, "from the codes"),
        ("tables/features.parquet", 0.5, "from the arrays"),
        ("meta.json", 0.5, "from its twin"),
        ("meta.copy.json", 0.5, "from its twin"),
        ("checks.bin", 0.5, "from its twin"),
    ],
)
def test_a_damaged_file_is_named_and_made_again_and_no_other_is_touched(
    sparse: Atlas, copy: Path, name: str, where: float, how: str
) -> None:
    before = marks_of(copy)
    flip(copy / name, where)
    assert [damage.file for damage in find_damage(copy)] == [name]
    with pytest.raises(OtoscopeError, match="damaged"):
        Atlas.open(copy).verify()
    outcomes = repair_atlas(copy, refuse)
    assert [(each.file, each.repaired, each.how) for each in outcomes] == [(name, True, how)]
    assert contents_of(copy) == contents_of(sparse.folder)
    after = marks_of(copy)
    assert {each for each in before if before[each] != after[each]} == {name}
    assert os.listdir(copy.parent) == ["sparse"]


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("harm", [Path.unlink, _cut, _grow])
@pytest.mark.parametrize("name", ["postings/00001.safetensors", "tables/clips.parquet", "checks.bin", "meta.copy.json"])
def test_missing_and_resized_files_come_back(
    sparse: Atlas, copy: Path, name: str, harm: Callable[[Path], None]
) -> None:
    harm(copy / name)
    assert all(each.repaired for each in repair_atlas(copy, refuse))
    assert contents_of(copy) == contents_of(sparse.folder)


def test_what_people_hear_in_a_part_is_told(sparse: Atlas) -> None:
    assert contents(sparse.folder, "codes/00000.safetensors").startswith("clips 'speech-00' to 'speech-")
    assert contents(sparse.folder, "postings/00000.safetensors").startswith("the frames of features 0 to ")
    assert contents(sparse.folder, "features.safetensors") == ""


def test_tables_are_computed_again_from_codes_and_corpus(sparse: Atlas, copy: Path, find: Find) -> None:
    """All of them at once, and whatever is made from them."""
    tables = [name for name in sparse.meta["files"] if not name.startswith(("codes/", "postings/", "clips."))]
    for name in tables:
        flip(copy / name, 0.7)
    (copy / "features.safetensors").unlink()
    alone = repair_atlas(copy)
    assert not any(each.repaired for each in alone)
    assert any("give what it was built from" in each.how for each in alone)
    outcomes = repair_atlas(copy, find)
    assert sorted(each.file for each in outcomes) == sorted(tables)
    assert all(each.repaired for each in outcomes)
    assert contents_of(copy) == contents_of(sparse.folder)


def test_clips_and_measures_come_from_the_corpus(sparse: Atlas, copy: Path, find: Find) -> None:
    part = copy / "codes/00000.safetensors"
    start, _ = ArrayFile(part).span("measures")
    flip(part, (start + 9) / part.stat().st_size)
    flip(copy / "clips.safetensors")
    assert [each.how for each in repair_atlas(copy, find)] == [
        "from the corpus",
        "from the postings and the recordings",
    ]
    assert contents_of(copy) == contents_of(sparse.folder)


def test_where_codes_and_postings_are_damaged_the_clips_are_encoded_again(
    sparse: Atlas, copy: Path, find: Find, world: World
) -> None:
    flip(copy / "codes/00001.safetensors", 0.3)
    flip(copy / "postings/00001.safetensors", 0.3)
    assert [each.repaired for each in repair_atlas(copy)] == [False, False]
    assert find_damage(copy)
    world.model.reads.clear()
    assert [each.how for each in repair_atlas(copy, find)] == ["by encoding its clips again", "from the codes"]
    assert contents_of(copy) == contents_of(sparse.folder)
    parts = sparse.meta["codes"]["parts"]
    first = parts[0]["n_clips"]
    assert world.model.reads == sparse.clip_ids[first : first + parts[1]["n_clips"]]


def test_a_dense_atlas_is_repaired_too(world: World, tmp_path: Path) -> None:
    few = world.corpus[:10]
    whole = build_atlas(world.model, world.dictionary, few, tmp_path / "whole", progress=False).folder
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    for name in ("totals.safetensors", "codes/00000.safetensors", "postings/00000.safetensors", "features.safetensors"):
        flip(copy / name)
    outcomes = repair_atlas(copy, lambda meta: Materials(world.dictionary, few, lambda: world.model))
    assert all(each.repaired for each in outcomes)
    assert contents_of(copy) == contents_of(whole)


def test_nothing_is_made_from_something_else(copy: Path, world: World) -> None:
    flip(copy / "labels.safetensors")
    before = contents_of(copy)
    other = RandomBasis(SITE, 8, 32, seed=1, k=3, name="sparse")
    (outcome,) = repair_atlas(copy, lambda meta: Materials(other, world.corpus, lambda: world.model))
    assert (outcome.repaired, "dictionary 'sparse' changed" in outcome.how) == (False, True)
    fewer = Corpus("planted", world.corpus[:9])
    (outcome,) = repair_atlas(copy, lambda meta: Materials(SPARSE, fewer, lambda: world.model))
    assert (outcome.repaired, "corpus 'planted' changed" in outcome.how) == (False, True)
    assert contents_of(copy) == before


def test_what_is_beyond_repair_is_said(copy: Path) -> None:
    flip(copy / "checks.bin")
    flip(copy / "classes.safetensors")
    with pytest.raises(OtoscopeError, match="build it again"):
        repair_atlas(copy)
    flip(copy / "meta.json")
    flip(copy / "meta.copy.json", 0.4)
    with pytest.raises(OtoscopeError, match=r"meta.json is damaged"):
        repair_atlas(copy)
    shutil.rmtree(copy)
    with pytest.raises(OtoscopeError, match="does not exist"):
        find_damage(copy)


def test_files_that_do_not_belong_are_told_and_left(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    (copy / ".features.safetensors.x.part").write_text("left by a crash")
    outcomes = {each.file: each.repaired for each in repair_atlas(copy)}
    assert outcomes == {".features.safetensors.x.part": True, "notes.txt": False}
    assert [damage.file for damage in find_damage(copy)] == ["notes.txt"]


def test_an_atlas_is_not_repaired_while_it_is_being_built(copy: Path) -> None:
    with only_one(copy.with_name(".sparse.lock"), "building it"), pytest.raises(OtoscopeError, match="is building it"):
        repair_atlas(copy)
