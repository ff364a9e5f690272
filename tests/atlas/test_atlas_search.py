"""Search: typed as people type, sorted as they expect, and refusals that say what there is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from planted_world import MORNING, SIREN, M, World
from tiny_atlas import Tiny, write

from otoscope.atlas import Atlas, build_atlas
from otoscope.audio import Corpus
from otoscope.errors import InputError


@pytest.fixture(scope="module")
def scored() -> Atlas:
    """Six features with the classes they are scored for."""
    values = np.random.default_rng(0).gamma(1.0, 1.0, (30, 6)).astype(np.float32)
    rows = [
        (0, "phone", "m", 0.9), (1, "phone", "m", 0.5), (1, "phone", "ʃ", 0.6), (2, "phone", "iː", 0.7),
        (3, "phone", "s", 0.8), (3, "word", "s", 0.4), (4, "word", "morning", 0.9), (5, "sound_class", "siren", 0.9),
    ]  # fmt: skip
    return write(Tiny([values], rows))


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
def test_a_sound_is_found_however_it_is_typed(scored: Atlas, typed: str, found: str) -> None:
    assert set(scored.find(typed)["label"]) == {found}


def test_slashes_mean_a_phone(scored: Atlas) -> None:
    assert set(scored.find("/s/")["label_kind"]) == {"phone"}
    assert scored.find("s").loc[3, "f1"] == pytest.approx(0.8)
    with pytest.raises(InputError, match="phone 'morning'"):
        scored.find("/morning/")


def test_results_are_features_with_the_scores_of_the_label_asked_for(scored: Atlas, atlas: Atlas) -> None:
    found = scored.find("m")
    assert found["f1"].tolist() == pytest.approx([0.9, 0.5])
    assert found.loc[1, "label"] == "m"
    assert scored.features.loc[1, "label"] == "ʃ"
    columns = {"density", "max", "f1_low", "f1_high", "ap", "chance", "p_value", "unit"}
    assert columns <= set(atlas.find("m").columns)
    assert atlas.find("m").loc[M, "f1"] == atlas[M].label_rows[0]["f1"]


def test_filters_and_order(atlas: Atlas) -> None:
    assert list(atlas.find(min_f1=0.8).index) == list(atlas.find(sort="f1", min_f1=0.8).index)
    assert {M, MORNING, SIREN} <= set(atlas.find(min_f1=0.7).index)
    assert set(atlas.find(kind="word", min_f1=0.8).index) == {MORNING}
    assert set(atlas.find(kind="words", min_f1=0.8).index) == {MORNING}
    assert set(atlas.find(text="orni")["label"]) == {"morning"}
    assert atlas.find(sort="density")["density"].is_monotonic_decreasing
    assert atlas.find(sort="-density")["density"].is_monotonic_increasing
    assert len(atlas.find(limit=2)) == 2


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"label": "mourning"}, "morning"),
        ({"label": "qqq"}, "there are"),
        ({"label": "m", "kind": "vowel"}, "it has phone, .*word"),
        ({"sort": "densty"}, "density"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(atlas: Atlas, query: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        atlas.find(**query)


def test_a_corpus_without_labels_still_gets_an_atlas(world: World) -> None:
    bare = [dataclasses.replace(clip, tiers={}, attributes={}, speaker=None) for clip in world.corpus]
    atlas = build_atlas(world.model, world.dictionary, Corpus("bare", bare), progress=False)
    assert len(atlas.labels) == 0
    assert atlas.find()["max"].is_monotonic_decreasing
    assert atlas[M].examples("top", 3)
    with pytest.raises(InputError, match="corpus 'bare' has no phone or word tiers"):
        atlas.find("m")


def test_labels_are_listed_with_their_best_feature(atlas: Atlas) -> None:
    kinds = ("phone", "word", "sound_class")
    labels = atlas.labels[atlas.labels["kind"].isin(kinds)].set_index("label")
    assert set(labels.index) == {"a", "iː", "m", "s", "ʃ", "seven", "bird", "morning", "rain", "siren", "speech"}
    assert labels.loc["m", "best_feature"] == M
    assert labels.loc["m", "n_features"] >= 1
    assert labels.loc["m", "best_f1"] == atlas.find("m").loc[M, "f1"]
