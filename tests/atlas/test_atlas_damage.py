"""A byte that changed in any file of an atlas is named when it is read, and never becomes an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted_world import SITE, World

from otoscope.atlas import Atlas, build_atlas
from otoscope.dictionaries import RandomBasis
from otoscope.storage.arrays import DamagedError
from otoscope.storage.sealed import COPY


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    basis = RandomBasis(SITE, 8, 12, seed=0, k=3)
    folder = tmp_path_factory.mktemp("damage") / "atlas"
    return build_atlas(world.model, basis, world.corpus[:10], folder, progress=False).folder


def read_all(folder: Path) -> list[bytes]:
    """Ask an atlas for all that it knows."""
    atlas = Atlas.open(folder)
    told: list[object] = [atlas.meta, atlas.features, atlas.labels, atlas.label_rows, atlas.clip_ids, atlas.histograms]
    for name in atlas.sealed.meta["files"]:
        if name.endswith(".safetensors"):
            file = atlas.sealed.arrays(name)
            told += [file.read(array).tobytes() for array in file.names]
        else:
            told.append(atlas.sealed.path(name).read_bytes())
    told += [atlas.codes[0 : atlas.meta["n_frames"]], atlas.codes.measures(0, 50)]
    for feature in range(len(atlas)):
        entry = atlas[feature]
        told += [entry.stats, entry.entries, entry.label_rows, entry.examples(), entry.examples("near_miss")]
        told += [entry.neighbours(), entry.cofiring()]
    return [repr(each).encode() for each in told]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_in_any_file_is_named(folder: Path, data: st.DataObject, where: float, flip: int) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != COPY)
    path = data.draw(st.sampled_from(files), label="file")
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[int(where * len(whole))] ^= flip
    path.write_bytes(changed)
    try:
        with pytest.raises(DamagedError) as caught:
            read_all(folder)
        assert caught.value.path == path
    finally:
        path.write_bytes(whole)


def test_what_is_whole_answers(folder: Path) -> None:
    np.testing.assert_array_equal(read_all(folder), read_all(folder))
    Atlas.open(folder).verify()
