"""Probes on a few features find what was planted in one of them, on other voices, and nothing where nothing is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from planted_speech import NASAL, D, Speech, relabelled, value

from otoscope.errors import InputError
from otoscope.evaluation import probes
from otoscope.evaluation.probes import strongest_features

KS = (1, 2, 5, 20)


@pytest.fixture(scope="module")
def found(speech: Speech) -> list:
    return probes(
        {"oracle": speech.oracle(), "random": speech.random()}, speech.frames, ks=KS, kinds=("phone", "manner")
    )


def test_one_feature_is_enough_where_one_was_planted(found: list) -> None:
    assert value(found, "probe.accuracy", basis="oracle", kind="phone", k="1") > 0.99
    assert value(found, "probe.f1", basis="oracle", kind="phone", k="1") > 0.99


def test_random_directions_need_many(found: list) -> None:
    figures = [value(found, "probe.accuracy", basis="random", kind="phone", k=str(k)) for k in KS]
    assert figures == sorted(figures)
    assert figures[0] < 0.9
    assert figures[-1] > figures[0] + 0.05


def test_the_dense_probe_on_activations_knows_all_there_is(found: list) -> None:
    assert value(found, "probe.accuracy", basis="raw", kind="phone", k="dense") > 0.99
    assert value(found, "probe.all.accuracy", basis="raw", kind="phone", k="dense") > 0.99
    assert value(found, "probe.all.macro_f1", basis="oracle", kind="phone", k="dense") > 0.99
    assert value(found, "probe.all.chance", basis="raw", kind="phone", k="dense") < 0.15


def test_labels_dealt_at_random_cannot_be_probed(speech: Speech) -> None:
    control = relabelled(speech.frames, "phone")
    measures = probes({"oracle": speech.oracle()}, control, ks=(1, 5), kinds=("phone",))
    for k in ("1", "5"):
        assert value(measures, "probe.accuracy", basis="oracle", kind="phone", k=k) == pytest.approx(0.5, abs=0.03)
    assert value(measures, "probe.accuracy", basis="raw", kind="phone", k="dense") == pytest.approx(0.5, abs=0.03)
    assert value(measures, "probe.all.accuracy", basis="raw", kind="phone", k="dense") < 0.15


def test_what_holds_for_some_voices_only_is_not_rewarded(speech: Speech) -> None:
    """With the code of the second half scrambled, only a probe scored on the voices that it was fitted to does well."""
    frames = speech.frames
    oracle = speech.oracle()
    code = frames.code(oracle).toarray()
    test = np.flatnonzero(frames.half_of_frame == 1)
    code[test] = code[np.random.default_rng(0).permutation(test)]
    from scipy.sparse import csr_matrix

    frames._codes[oracle] = csr_matrix(code)
    measures = probes({"oracle": oracle}, frames, ks=(1,), kinds=("phone",), raw=False)
    assert value(measures, "probe.accuracy", basis="oracle", kind="phone", k="1") == pytest.approx(0.5, abs=0.03)


def test_features_are_picked_by_how_well_they_part_the_class_from_others_whatever_their_unit() -> None:
    from scipy.sparse import csr_matrix

    positive = np.arange(400) < 200
    rng = np.random.default_rng(0)
    loud = 1000 * rng.random(400) + 100 * positive
    quiet = 1e-3 * (positive & (rng.random(400) < 0.9))
    absent = 5.0 * ~positive
    code = csr_matrix(np.stack([loud, quiet, absent, np.zeros(400), np.ones(400)], axis=1).astype(np.float32))
    assert strongest_features(code, positive, 3).tolist() == [2, 1, 0]
    assert strongest_features(code, positive, 5, rising=True).tolist() == [1, 0]


def test_figures_carry_intervals_over_clips_and_say_over_how_many_classes(found: list) -> None:
    (one,) = [m for m in found if m.name == "probe.accuracy" and m.of == {"basis": "random", "kind": "phone", "k": "1"}]
    assert one.low < one.value < one.high
    assert (one.n, one.n_unit) == (12, "classes")
    assert not any(math.isnan(m.value) for m in found)


def test_natural_classes_are_probed_by_the_feature_they_have(speech: Speech) -> None:
    without = torch.cat([speech.directions[:NASAL], torch.zeros(1, D)])
    bases = {"with": speech.oracle(), "without": speech.dictionary(without, without)}
    measures = probes(bases, speech.frames, ks=(1,), kinds=("manner",), raw=False)
    with_it, without_it = (value(measures, "probe.f1", basis=b, kind="manner", k="1") for b in bases)
    assert with_it > without_it + 0.05


def test_nonsense_is_refused(speech: Speech) -> None:
    with pytest.raises(InputError, match="at least one basis"):
        probes({}, speech.frames)
    with pytest.raises(InputError, match="k of at least 1"):
        probes({"oracle": speech.oracle()}, speech.frames, ks=(0, 1))
    with pytest.raises(InputError, match="nothing can be probed"):
        probes({"oracle": speech.oracle()}, speech.frames, kinds=("word",))
