"""Near misses: where a feature ought to have fired, by its label or by what fires with it, and did not."""

from __future__ import annotations

import numpy as np
import pytest
from planted_world import NOISE, M, World, plant

from otoscope.atlas import Atlas, build_atlas
from otoscope.atlas.search.near_misses import GUARD

DEAF = ("speech-03", "speech-09", "speech-21")


@pytest.fixture(scope="module")
def planted() -> World:
    """Units 0 and 1 both fire for /m/, but in three clips unit 0 is silent, and unit 1 fires before all speech too."""
    world = plant()
    for clip in world.corpus:
        x = world.model.frames[clip.clip_id]
        x[:, NOISE] = 0.8 * x[:, M] + 0.01
        if clip.clip_id in DEAF:
            x[:, M] = 0
            x[:4, NOISE] = 5
    return world


@pytest.fixture(scope="module")
def atlas(planted: World) -> Atlas:
    return build_atlas(planted.model, planted.dictionary, planted.corpus, progress=False)


def test_they_are_where_the_class_is_and_the_feature_is_silent(atlas: Atlas, planted: World) -> None:
    assert atlas[M].stats["label"] == "m"
    assert NOISE in [partner.feature for partner in atlas[M].cofiring()]
    found = atlas[M].examples("near_miss", 3)
    assert {each.clip_id for each in found} == set(DEAF)
    for each in found:
        clip = planted.corpus.get(each.clip_id)
        assert any(phone.label == "m" for phone in clip.tiers["phones"] if phone.start_s <= each.time_s < phone.end_s)
        x = planted.model.frames[each.clip_id]
        assert (each.kind, each.value) == ("near_miss", 0.0)
        assert x[each.frame, NOISE] == pytest.approx(x[_frames_of_m(planted, each.clip_id), NOISE].max())


def _frames_of_m(planted: World, clip_id: str) -> np.ndarray:
    times = 0.02 * np.arange(len(planted.model.frames[clip_id]))
    phones = [each for each in planted.corpus.get(clip_id).tiers["phones"] if each.label == "m"]
    return np.any([(times >= each.start_s) & (times < each.end_s) for each in phones], axis=0)


def test_the_feature_does_not_fire_near_them(atlas: Atlas) -> None:
    clip, frame, value = atlas[M].postings()
    threshold = atlas[M].stats["threshold"]
    ids = np.array(atlas.clip_ids)
    for each in atlas[M].examples("near_miss", 20):
        near = (ids[clip] == each.clip_id) & (np.abs(frame - each.frame) <= GUARD)
        assert not (value[near] > threshold).any()


def test_a_feature_that_misses_nothing_has_none_with_partners_firing(atlas: Atlas, planted: World) -> None:
    """The control: unit 1 fires wherever unit 0 does."""
    for each in atlas[NOISE].examples("near_miss", 10):
        assert planted.model.frames[each.clip_id][each.frame, M] < atlas[M].stats["threshold"]
