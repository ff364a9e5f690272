"""Selectivity measures equal their definitions, and nothing looks selective where nothing is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.evaluation import (
    auroc,
    auroc_matrix,
    average_precision,
    benjamini_hochberg,
    best_units,
    circular_shift,
    f1_at,
    f1_max,
    held_out_purity,
    purity,
    split_groups,
)

values_and_positives = st.lists(st.tuples(st.integers(-3, 6), st.booleans()), min_size=1, max_size=40).map(
    lambda rows: (np.array([v for v, _ in rows], dtype=np.float32), np.array([p for _, p in rows], dtype=bool))
)


@given(values_and_positives)
def test_auroc_is_the_share_of_pairs_in_the_right_order(data: tuple[np.ndarray, np.ndarray]) -> None:
    values, positive = data
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in values[positive] for b in values[~positive]]
    assert auroc(values, positive) == pytest.approx(np.mean(pairs) if pairs else math.nan, nan_ok=True)


@given(values_and_positives)
def test_average_precision_is_the_mean_precision_at_the_positives(data: tuple[np.ndarray, np.ndarray]) -> None:
    values, positive = data
    precisions = [positive[values >= v].mean() for v in values[positive]]
    assert average_precision(values, positive) == pytest.approx(
        np.mean(precisions) if precisions else math.nan, nan_ok=True
    )


@given(values_and_positives)
def test_f1_max_is_the_best_of_all_thresholds(data: tuple[np.ndarray, np.ndarray]) -> None:
    values, positive = data
    tried = [f1_at(values, positive, threshold).f1 for threshold in [-math.inf, *(v for v in values)]]
    found = f1_max(values, positive)
    assert found.f1 == pytest.approx(max(tried))
    assert f1_at(values, positive, found.threshold) == found


def test_f1_at_a_known_point() -> None:
    found = f1_at(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, True]), 0.5)
    assert (found.precision, found.recall, found.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_purity_takes_the_strongest_twentieth_of_the_active_labelled_frames() -> None:
    values = np.arange(1, 1001, dtype=np.float32)
    labels = np.where(values > 960, 7, 3)
    assert purity(values, labels) == (7, 40 / 50)
    assert purity(values, labels, label=3) == (3, 10 / 50)


def test_purity_is_not_claimed_for_fewer_active_frames_than_asked_for() -> None:
    values = np.array([5.0] * 9 + [0.0] * 100)
    assert purity(values, np.zeros(109, dtype=int)).label == -1


def test_purity_does_not_depend_on_the_order_of_ties() -> None:
    values = np.ones(400)
    labels = np.array([0] * 20 + [1] * 380)
    assert purity(values, labels) == (1, 0.95) == purity(values, labels[::-1])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_auroc_matrix_equals_auroc_of_every_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, (60, 3)).astype(np.float32)
    labels = rng.integers(-1, 4, 60)
    shifted = np.where(labels >= 0, rng.permutation(np.where(labels < 0, 0, labels)), -1)
    scores = auroc_matrix(values, [labels, shifted], 5)
    assert scores.shape == (2, 3, 5)
    for r, each in enumerate((labels, shifted)):
        kept = each >= 0
        for unit in range(3):
            for c in range(5):
                expected = auroc(values[kept, unit], each[kept] == c)
                assert scores[r, unit, c] == pytest.approx(expected, nan_ok=True, abs=1e-6)


def test_labellings_of_different_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="same frames"):
        auroc_matrix(np.zeros((3, 1)), [np.array([0, 1, -1]), np.array([0, -1, 1])], 2)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(0, 99))
def test_circular_shift_keeps_every_clips_labels_and_moves_them_a_second(lengths: list[int], seed: int) -> None:
    labels = np.concatenate([np.arange(n) for n in lengths])
    labels[::7] = -1
    starts = np.cumsum([0, *lengths[:-1]])
    shifted = circular_shift(labels, starts, seed=seed)
    assert ((shifted < 0) == (labels < 0)).all()
    for start, n in zip(starts, lengths, strict=True):
        before, after = (each[start : start + n] for each in (labels, shifted))
        before, after = before[before >= 0], after[after >= 0]
        by = int(np.flatnonzero(after == before[0])[0]) if len(before) else 0
        assert (np.roll(before, by) == after).all()
        assert len(before) < 2 * 50 or 50 <= by <= len(before) - 50


def test_benjamini_hochberg_on_its_authors_example() -> None:
    # Benjamini & Hochberg (1995), section 3.2: 15 p-values, 4 rejected at q = 0.05
    p = np.array(
        [
            0.0001,
            0.0004,
            0.0019,
            0.0095,
            0.0201,
            0.0278,
            0.0298,
            0.0344,
            0.0459,
            0.3240,
            0.4262,
            0.5719,
            0.6528,
            0.7590,
            1.0,
        ]
    )
    order = np.random.default_rng(0).permutation(len(p))
    adjusted = benjamini_hochberg(p[order])
    assert sorted(p[order][adjusted <= 0.05]) == list(p[:4])
    assert adjusted.max() == 1.0
    assert np.isnan(benjamini_hochberg(np.array([np.nan, 0.01]))[0])


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=2), st.integers(1, 5), min_size=2, max_size=9),
    st.integers(0, 99),
)
def test_no_voice_is_in_both_halves_and_the_halves_balance(takes: dict[str, int], seed: int) -> None:
    voices = [voice for voice, n in takes.items() for _ in range(n)]
    half = split_groups(voices, [1.0] * len(voices), seed=seed)
    sides = {voice: set(half[[i for i, v in enumerate(voices) if v == voice]].tolist()) for voice in takes}
    assert all(len(side) == 1 for side in sides.values())
    assert abs(int((half == 0).sum()) - int((half == 1).sum())) <= max(takes.values())
    assert set(half.tolist()) == {0, 1}


def planted(n: int = 6000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values [t, 4] of which unit 2 follows class 1 (inverted) and unit 0 class 0 on one half of the voices only."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 5, n // 5), 5)
    half = np.repeat(rng.integers(0, 2, 40), n // 40)
    values = rng.normal(size=(n, 4)).astype(np.float32)
    values[:, 2] -= 4 * (labels == 1)
    values[:, 0] += 4 * ((labels == 0) & (half == 0))
    return values, labels, half


def test_a_unit_chosen_on_one_half_is_judged_on_the_other() -> None:
    values, labels, half = planted()
    (best,) = best_units(values, [labels], half, 5)
    assert (best.unit[1], best.side[1]) == (2, -1)
    assert best.scored[1] > 0.98
    assert best.unit[0] == 0
    assert best.chosen[0] > 0.98
    assert best.scored[0] < 0.6


def test_moved_labels_and_idle_units_reach_nothing() -> None:
    values, labels, half = planted()
    moved = circular_shift(labels, np.arange(0, len(labels), 150), seed=1)
    (best,) = best_units(values, [moved], half, 5)
    assert best.scored.max() < 0.6
    shares = held_out_purity(values, labels, half)
    assert np.nanmax(held_out_purity(values, moved, half)) < 0.5
    assert np.nanmax(shares[[1, 3]]) < 0.5
