"""Search: typed as people type, sorted as they expect, and refusals that say what there is."""

from __future__ import annotations

import dataclasses

import pytest
from planted_world import MORNING, SIREN, M, World

from otoscope.atlas import Atlas, build_atlas
from otoscope.audio import Corpus
from otoscope.errors import InputError


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("m", "m"),
        ("/m/", "m"),
        (" M ", "m"),
        ("sh", "ʃ"),
        ("/sh/", "ʃ"),
        ("iy", "iː"),
        ("Morning", "morning"),
        ("siren", "siren"),
    ],
)
def test_a_sound_is_found_however_it_is_typed(atlas: Atlas, typed: str, found: str) -> None:
    assert set(atlas.find(typed)["label"]) == {found}


def test_slashes_mean_a_phone(atlas: Atlas) -> None:
    assert set(atlas.find("/s/")["label_kind"]) == {"phone"}
    with pytest.raises(InputError, match="morning"):
        atlas.find("/morning/")


def test_results_are_features_with_the_scores_of_the_label_asked_for(atlas: Atlas) -> None:
    found = atlas.find("m")
    assert found["f1"].is_monotonic_decreasing
    assert {"density", "max", "f1_low", "f1_high", "ap", "chance", "p_value", "unit"} <= set(found.columns)
    second = found.index[1]
    rows = atlas[second].labels
    assert found.loc[second, "f1"] == rows[rows["label"] == "m"]["f1"].iloc[0]


def test_filters_and_order(atlas: Atlas) -> None:
    assert list(atlas.find(min_f1=0.8).index) == list(atlas.find(sort="f1", min_f1=0.8).index)
    assert {M, MORNING, SIREN} <= set(atlas.find(min_f1=0.8).index)
    assert set(atlas.find(kind="word", min_f1=0.8).index) == {MORNING}
    assert set(atlas.find(kind="words", min_f1=0.8).index) == {MORNING}
    assert set(atlas.find(text="orni")["label"]) == {"morning"}
    assert atlas.find(sort="density")["density"].is_monotonic_decreasing
    assert atlas.find(sort="-density")["density"].is_monotonic_increasing
    assert len(atlas.find("m", limit=2)) == 2


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"label": "mourning"}, "morning"),
        ({"label": "qqq"}, "there are"),
        ({"label": "m", "kind": "vowel"}, "phone, word, sound_class"),
        ({"sort": "densty"}, "density"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(atlas: Atlas, query: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        atlas.find(**query)


def test_a_corpus_without_labels_still_gets_an_atlas(world: World) -> None:
    bare = [dataclasses.replace(clip, tiers={}, attributes={}) for clip in world.corpus]
    atlas = build_atlas(world.model, world.dictionary, Corpus("bare", bare), progress=False)
    assert len(atlas.labels) == 0
    assert atlas.find()["max"].is_monotonic_decreasing
    assert atlas[M].examples("top", 3)
    with pytest.raises(InputError, match="corpus 'bare' has no phone or word tiers"):
        atlas.find("m")


def test_labels_are_listed_with_their_best_feature(atlas: Atlas) -> None:
    labels = atlas.labels.set_index("label")
    assert set(labels.index) == {"a", "iː", "m", "s", "ʃ", "seven", "bird", "morning", "rain", "siren", "speech"}
    assert labels.loc["m", "best_feature"] == M
    assert labels.loc["m", "n_features"] >= 1
    assert labels.loc["m", "best_f1"] == atlas.find("m").loc[M, "f1"]
