"""Absorption is found where it was planted, in the frames where it was planted, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from planted_speech import NASAL, NASALS, PHONES, SITE, Speech, relabelled, value

from otoscope.dictionaries import TopKDictionary
from otoscope.errors import InputError
from otoscope.evaluation import absorption
from otoscope.evaluation.absorption import absorbed_classes

M = PHONES.index("m")
NASAL_CLASS = {"kind": "manner", "class": "nasal"}


def absorbing(speech: Speech) -> TopKDictionary:
    """The feature of nasals is silent on m, and the feature of m writes the direction of nasals too."""
    encoder, decoder = speech.directions.clone(), speech.directions.clone()
    encoder[NASAL] -= 2 * speech.directions[M]
    decoder[M] += speech.directions[NASAL]
    return speech.dictionary(encoder, decoder, "absorbing")


def test_frames_whose_special_feature_took_over_are_absorbed_and_no_others(speech: Speech) -> None:
    (nasal,) = [
        each for each in absorbed_classes(absorbing(speech), speech.frames, kinds=("manner",)) if each.name == "nasal"
    ]
    phone = speech.frames.label_set("phone")
    is_m = phone.frame_class[nasal.at] == phone.classes.index("m")
    assert nasal.main[0] == NASAL
    assert nasal.probe_f1 > 0.95
    assert nasal.full[is_m].mean() > 0.95
    assert nasal.full[~is_m].mean() < 0.05
    assert (nasal.fraction[is_m] == 1).mean() > 0.95
    assert nasal.fraction[~is_m].mean() < 0.3
    assert set(nasal.absorber[is_m & nasal.full].tolist()) == {M}


def test_the_dictionary_behind_the_data_absorbs_nothing(speech: Speech) -> None:
    measures = absorption(speech.oracle(), speech.frames, kinds=("manner",))
    assert value(measures, "absorption.full", **NASAL_CLASS) < 0.02
    assert value(measures, "absorption.fraction", **NASAL_CLASS) < 0.3
    spoiled = absorption(absorbing(speech), speech.frames, kinds=("manner",))
    said = np.array(speech.frames.label_set("phone").classes)[speech.frames.named("phone", 1)[1]]
    share = (said == "m").sum() / np.isin(said, NASALS).sum()
    assert value(spoiled, "absorption.full", **NASAL_CLASS) == pytest.approx(share, abs=0.03)
    assert value(spoiled, "absorption.full") > value(measures, "absorption.full")


def test_a_class_without_a_feature_of_its_own_is_split_among_those_of_its_phones(speech: Speech) -> None:
    split = {each.name: each.main for each in absorbed_classes(speech.oracle(), speech.frames, kinds=("manner",))}
    assert split["nasal"] == (NASAL,)
    assert sorted(split["stop"]) == [PHONES.index(phone) for phone in ("b", "d", "ɡ")]
    measures = absorption(speech.oracle(), speech.frames, kinds=("manner",))
    assert value(measures, "absorption.split_features") == pytest.approx(np.mean([len(m) for m in split.values()]))


def test_classes_that_no_probe_finds_are_left_out(speech: Speech) -> None:
    control = relabelled(speech.frames, "manner")
    assert absorbed_classes(speech.oracle(), control, kinds=("manner",)) == []
    assert absorption(speech.oracle(), control, kinds=("manner",)) == []


def test_a_transcoder_is_refused_with_the_reason(speech: Speech) -> None:
    transcoder = speech.oracle()
    transcoder.target_site = "encoder.3.mlp.out"
    with pytest.raises(InputError, match=f"reads {SITE} and rebuilds encoder.3.mlp.out"):
        absorption(transcoder, speech.frames)
