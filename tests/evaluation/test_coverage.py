"""Coverage and PNMI are complete for the dictionary behind the data and at chance where labels mean nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_speech import MEAN, NASAL, PHONES, SITE, D, N, Speech, relabelled, value

from otoscope.dictionaries import RandomBasis
from otoscope.evaluation import coverage, name_features, pnmi

PHONE = {"kind": "phone"}


def test_the_dictionary_behind_the_data_explains_every_frame(speech: Speech) -> None:
    found = coverage(speech.oracle(), speech.frames)
    assert value(found, "coverage.any", **PHONE) > 0.99
    assert value(found, "coverage.strongest", **PHONE) > 0.99
    assert value(found, "coverage.named_features", **PHONE) == len(PHONES)
    assert value(found, "coverage.named_classes", **PHONE) == 1
    assert value(found, "coverage.named_share", **PHONE) == pytest.approx(len(PHONES) / N)


def test_chance_is_how_often_a_name_fits_a_shifted_label(speech: Speech) -> None:
    found = coverage(speech.oracle(), speech.frames)
    _, classes = speech.frames.named("phone", 1)
    share = np.bincount(classes) / len(classes)
    assert value(found, "coverage.any.chance", **PHONE) == pytest.approx(np.square(share).sum(), abs=0.04)
    assert value(found, "coverage.any.above_chance", **PHONE) == pytest.approx(
        value(found, "coverage.any", **PHONE) - value(found, "coverage.any.chance", **PHONE)
    )
    assert value(found, "coverage.named_features.chance", **PHONE) == 0


def test_features_are_named_after_what_they_say_and_only_if_it_is_mostly_so(speech: Speech) -> None:
    naming = name_features(speech.oracle(), speech.frames)
    assert [naming.classes[name] for name in naming.name[: len(PHONES)]] == list(PHONES)
    assert (naming.name[len(PHONES) :] == -1).all(), "of three nasals none is said more often than not"
    manner = name_features(speech.oracle(), speech.frames, "manner")
    assert manner.classes[manner.name[NASAL]] == "nasal"
    assert manner.confirmed[NASAL]


def test_a_class_that_nearly_always_holds_names_no_feature_that_is_always_active(speech: Speech) -> None:
    always = speech.oracle()
    always.encoder_bias[:] = -1e9
    always.encoder_bias[NASAL] = 1.0
    voicing = name_features(always, speech.frames, "voicing")
    assert voicing.classes[1] == "voiceless"
    assert (speech.frames.named("voicing", 0)[1] == 0).mean() > 0.6, "saying voiced is right more often than not"
    assert (voicing.name == -1).all()


def test_labels_dealt_at_random_name_nothing(speech: Speech) -> None:
    control = relabelled(speech.frames, "phone")
    found = coverage(speech.oracle(), control)
    assert value(found, "coverage.named_features", **PHONE) == 0
    assert value(found, "coverage.any", **PHONE) < 0.1


def test_many_active_names_cover_everything_by_chance_and_chance_says_so(speech: Speech) -> None:
    crowd = RandomBasis(SITE, D, 10 * N, seed=5, k=5 * N, mean=torch.full((D,), MEAN))
    found, oracle = coverage(crowd, speech.frames), coverage(speech.oracle(), speech.frames)
    assert value(found, "coverage.any", **PHONE) > 0.95
    assert value(found, "coverage.any.chance", **PHONE) > 2 * value(oracle, "coverage.any.chance", **PHONE) > 0.1
    gained, best = (value(each, "coverage.any.above_chance", **PHONE) for each in (found, oracle))
    assert gained < best - 0.1
    assert 0.8 < value(found, "coverage.strongest", **PHONE) < 0.96, "the strongest of many names is mostly right"


def test_intervals_rest_on_the_clips_of_the_scored_voices(speech: Speech) -> None:
    (strongest,) = [m for m in coverage(speech.random(), speech.frames) if m.name == "coverage.strongest"]
    assert strongest.low < strongest.value < strongest.high
    assert strongest.n == len(speech.frames.named("phone", 1)[0])


def test_the_strongest_feature_says_all_about_the_phone_where_it_is_the_phones_own(speech: Speech) -> None:
    found = pnmi(speech.oracle(), speech.frames)
    raw = {**PHONE, "strength": "raw"}
    assert value(found, "clustering.pnmi", **raw) == pytest.approx(1, abs=1e-6)
    assert value(found, "clustering.phone_purity", **raw) == pytest.approx(1)
    assert value(found, "clustering.cluster_purity", **raw) == pytest.approx(1)
    assert value(found, "clustering.used_features", **raw) == len(PHONES)
    assert value(found, "clustering.pnmi.chance", **raw) < 0.15
    control = pnmi(speech.random(), speech.frames)
    for strength in ("raw", "relative"):
        assert value(control, "clustering.pnmi", kind="phone", strength=strength) < 0.8
        assert value(control, "clustering.pnmi.chance", kind="phone", strength=strength) < 0.25


@pytest.mark.parametrize("strength", ["raw", "relative"])
def test_pnmi_is_the_mutual_information_over_the_entropy_of_phones(speech: Speech, strength: str) -> None:
    from sklearn.metrics import mutual_info_score

    basis = speech.random()
    at, classes = speech.frames.named("phone", 1)
    code = speech.frames.code(basis).toarray()
    power = np.sqrt(np.square(code[speech.frames.half_of_frame == 0]).mean(axis=0))
    strongest = (code / (power if strength == "relative" else 1))[at].argmax(axis=1)
    expected = mutual_info_score(classes, strongest) / mutual_info_score(classes, classes)
    measures = pnmi(basis, speech.frames)
    (found,) = [m for m in measures if m.name == "clustering.pnmi" and m.of["strength"] == strength]
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high


def test_labels_dealt_at_random_leave_pnmi_at_its_chance(speech: Speech) -> None:
    control = relabelled(speech.frames, "phone")
    found = pnmi(speech.oracle(), control)
    raw = {**PHONE, "strength": "raw"}
    assert value(found, "clustering.pnmi", **raw) == pytest.approx(
        value(found, "clustering.pnmi.chance", **raw), abs=0.02
    )
