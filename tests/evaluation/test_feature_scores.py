"""Scores of every feature and class equal their plain definitions, held out, and say nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from planted_speech import NASAL, NASALS, PHONES, Speech, relabelled, value

from otoscope.evaluation import FeatureScores, auroc, average_precision, f1_at, f1_max, feature_scores, score_measures
from otoscope.evaluation.feature_scores import mutual_information
from otoscope.evaluation.frames import FIT, TEST


@pytest.fixture(scope="module")
def scores(speech: Speech) -> FeatureScores:
    return feature_scores(speech.oracle(), speech.frames)


def test_thresholds_are_fixed_on_one_half_and_scores_taken_on_the_other(speech: Speech, scores: FeatureScores) -> None:
    labels = speech.frames.label_set("phone")
    basis = speech.random()
    drawn = feature_scores(basis, speech.frames)
    dense = speech.frames.code(basis).toarray()
    known = labels.frame_class >= 0
    fit, test = (known & (speech.frames.half_of_frame == side) for side in (FIT, TEST))
    for feature in (0, 7, 24):
        for c in range(len(labels.classes)):
            truth = labels.frame_class == c
            best = f1_max(dense[fit, feature], truth[fit])
            if not 0 <= best.threshold < np.inf:
                continue  # the best is to say it always: thresholds of features are never below 0
            threshold = float(drawn.threshold[feature, c])
            assert f1_at(dense[fit, feature], truth[fit], threshold).f1 == pytest.approx(best.f1)
            found = f1_at(dense[test, feature], truth[test], threshold)
            assert drawn.f1[feature, c] == pytest.approx(found.f1)
            assert drawn.precision[feature, c] == pytest.approx(found.precision)
            assert drawn.ap[feature, c] == pytest.approx(average_precision(dense[test, feature], truth[test]))
            assert drawn.auroc[feature, c] == pytest.approx(auroc(dense[test, feature], truth[test]))


def test_the_class_of_purity_is_chosen_on_one_half_and_its_share_taken_on_the_other(speech: Speech) -> None:
    control = relabelled(speech.frames, "phone")
    oracle = speech.oracle()
    scores = feature_scores(oracle, control)
    active = control.code(oracle).toarray() > 0
    (fit, fit_class), (test, test_class) = (control.named("phone", side) for side in (FIT, TEST))
    n = len(PHONES)
    for feature in range(n):
        chosen = np.bincount(fit_class[active[fit, feature]], minlength=n).argmax()
        said = test_class[active[test, feature]]
        assert scores.purity_class[feature] == chosen
        assert scores.purity[feature] == pytest.approx((said == chosen).mean())


def test_every_phone_is_found_by_the_feature_that_was_planted_for_it(scores: FeatureScores) -> None:
    assert [PHONES[feature] for feature in scores.best_feature] == list(scores.classes)
    every = np.arange(len(PHONES))
    assert (scores.f1[scores.best_feature, every] > 0.98).all()
    assert (scores.chance[scores.best_feature, every] < 0.25).all()
    assert (scores.p_value[scores.best_feature, every] < 1e-4).all()
    assert (scores.purity[: len(PHONES)] == 1).all()


def test_a_feature_of_three_phones_is_as_unsure_as_three_phones(speech: Speech, scores: FeatureScores) -> None:
    assert scores.effective_classes[0] == pytest.approx(1)
    assert scores.effective_classes[NASAL] == pytest.approx(len(NASALS), rel=0.05)
    said = np.array(scores.classes)[speech.frames.named("phone", TEST)[1]]
    chosen = scores.classes[scores.purity_class[NASAL]]
    assert chosen in NASALS
    assert scores.purity[NASAL] == pytest.approx((said == chosen).sum() / np.isin(said, NASALS).sum(), abs=0.01)
    assert scores.information[NASAL] > 1.5 * scores.information[0] > 0.3
    assert np.abs(scores.information[len(PHONES) : NASAL]).max() < 0.01


def test_natural_classes_are_scored_like_phones(speech: Speech) -> None:
    manner = feature_scores(speech.oracle(), speech.frames, "manner")
    nasal = manner.classes.index("nasal")
    assert manner.best_feature[nasal] == NASAL
    assert manner.f1[NASAL, nasal] > 0.99


def test_with_labels_dealt_at_random_no_feature_beats_chance(speech: Speech) -> None:
    control = relabelled(speech.frames, "phone")
    scores = feature_scores(speech.oracle(), control)
    every = np.arange(len(PHONES))
    excess = scores.f1[scores.best_feature, every] - scores.chance[scores.best_feature, every]
    assert np.abs(excess).mean() < 0.03
    assert np.abs(scores.information).max() < 0.02


def test_information_of_independent_events_is_zero_and_of_a_copy_is_the_entropy() -> None:
    n_frames = np.array([4000, 4000])
    none, copy = mutual_information(np.array([[1000, 1000], [4000, 0]]), n_frames)
    assert none == pytest.approx(0, abs=2e-4)
    assert copy == pytest.approx(1, abs=1e-3)
    rng = np.random.default_rng(0)
    chance = mutual_information(rng.binomial(40, 0.5, (2000, 6)), np.full(6, 40))
    assert chance.mean() == pytest.approx(0, abs=2e-3), "the correction takes the bias of few frames away"


def test_sums_follow_the_scores_and_carry_intervals(speech: Speech, scores: FeatureScores) -> None:
    measures = score_measures(scores, speech.oracle(), speech.frames)
    assert value(measures, "features.best_f1", kind="phone") == pytest.approx(
        scores.f1[scores.best_feature, np.arange(len(PHONES))].mean()
    )
    basis = speech.random()
    control = score_measures(feature_scores(basis, speech.frames), basis, speech.frames)
    (best,) = [m for m in control if m.name == "features.best_f1"]
    assert best.low < best.value < best.high < 0.9
    assert value(measures, "features.best_ap", kind="phone") > 0.99
    assert value(measures, "features.best_f1.chance", kind="phone") < 0.2
