"""A feature that knows a word is told from one that knows a phone of that word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_speech import Speech, relabelled, value
from planted_words import M_IN_MORNING, MORNING, N_NOISE, OPEN_VOWEL, M, N, Spoken

from otoscope.errors import InputError
from otoscope.evaluation import Lexicality, f1_at, f1_max, lexical_measures, lexicality
from otoscope.evaluation.frames import FIT, TEST


@pytest.fixture(scope="module")
def found(spoken: Spoken) -> Lexicality:
    return lexicality(spoken.dictionary, spoken.frames)


def test_a_phone_wherever_it_is_said_is_phonetic_and_a_word_is_lexical(found: Lexicality) -> None:
    assert [found.verdict[feature] for feature in (M, OPEN_VOWEL)] == ["phonetic", "phonetic"]
    assert [found.verdict[feature] for feature in (MORNING, M_IN_MORNING)] == ["lexical", "lexical"]
    assert [found.phones[found.phone[feature]] for feature in (M, M_IN_MORNING, OPEN_VOWEL)] == ["m", "m", "ɔ"]
    assert [found.words[found.word[feature]] for feature in (MORNING, M_IN_MORNING)] == ["morning", "morning"]
    assert found.phone_f1[M] > 0.98 > 0.02 > found.phone_f1[M_IN_MORNING]
    assert found.word_f1[MORNING] > 0.98


def test_of_features_of_nothing_nothing_is_decided(found: Lexicality) -> None:
    assert found.verdict[N - N_NOISE :].count("neither") >= N_NOISE - 1
    assert set(found.verdict[N - N_NOISE :]) <= {"neither", "open"}


def test_the_f1_of_the_phone_is_measured_outside_the_word_on_other_voices(spoken: Spoken, found: Lexicality) -> None:
    frames = spoken.frames
    words, phones = frames.label_set("word"), frames.label_set("phone")
    strength = frames.code(spoken.dictionary)[:, M].toarray()[:, 0]
    elsewhere = (phones.frame_class >= 0) & (words.frame_class >= 0) & (words.frame_class != found.word[M])
    truth = phones.frame_class == found.phone[M]
    fit, test = (elsewhere & (frames.half_of_frame == half) for half in (FIT, TEST))
    threshold = f1_max(strength[fit], truth[fit]).threshold
    assert found.phone_f1[M] == pytest.approx(f1_at(strength[test], truth[test], threshold).f1)
    assert found.low[M] < found.word_f1[M] - found.phone_f1[M] < found.high[M] < 0


def test_a_phone_that_is_met_in_one_word_only_decides_nothing(spoken: Spoken) -> None:
    frames = spoken.frames
    words, phones = frames.label_set("word"), frames.label_set("phone")
    m = phones.classes.index("m")
    other = (phones.frame_class == m) & (words.frame_class != words.classes.index("morning"))
    without = np.where(other, -1, phones.frame_class).astype(np.int16)
    alone = replace(frames, labels={**frames.labels, "phone": replace(phones, frame_class=without)})
    verdict = lexicality(spoken.dictionary, alone).verdict
    assert verdict[M_IN_MORNING] == "alone"
    assert verdict[OPEN_VOWEL] == "phonetic"


def test_where_words_are_dealt_at_random_nothing_is_lexical(spoken: Spoken) -> None:
    control = lexicality(spoken.dictionary, relabelled(spoken.frames, "word"))
    assert control.count("lexical") == 0
    assert control.verdict[M] == "phonetic"
    silent = lexicality(spoken.dictionary, relabelled(relabelled(spoken.frames, "word"), "phone"))
    assert silent.count("lexical") + silent.count("phonetic") == 0


def test_counts_stand_beside_those_of_moved_words(spoken: Spoken, found: Lexicality) -> None:
    measures = lexical_measures(spoken.dictionary, spoken.frames)
    assert value(measures, "lexical.features", verdict="lexical") == found.count("lexical") == 2
    assert value(measures, "lexical.features.chance", verdict="lexical") == 0
    assert value(measures, "lexical.share") == 2 / (2 + found.count("phonetic"))
    assert sum(m.value for m in measures if m.name == "lexical.features") == N


def test_speech_without_words_is_refused(speech: Speech) -> None:
    with pytest.raises(InputError, match="no 'word' labels"):
        lexicality(speech.oracle(), speech.frames)
