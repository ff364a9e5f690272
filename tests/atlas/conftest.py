"""One planted world and its atlas for all tests of this room."""

from __future__ import annotations

import pytest
from planted_world import World, plant

from otoscope.atlas import Atlas, build_atlas


@pytest.fixture(scope="session")
def world() -> World:
    return plant()


@pytest.fixture(scope="session")
def atlas(world: World, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    folder = tmp_path_factory.mktemp("atlas") / "units"
    return build_atlas(world.model, world.dictionary, world.corpus, folder, progress=False)
