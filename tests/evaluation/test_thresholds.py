"""The thresholds that naming chooses are those of the plain definition: of all best ones, the highest."""

from __future__ import annotations

import numpy as np
import pytest

from otoscope.evaluation.naming.by_feature import ranking
from otoscope.evaluation.naming.choosing import choose_thresholds

N_CLASSES = 4


@pytest.mark.parametrize("n_values", [3, 40, 1 << 22])
@pytest.mark.parametrize("seed", range(8))
def test_thresholds_are_the_best_of_all(seed: int, n_values: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.array([700, 0, 1, 17, 300])
    indptr = np.concatenate(([0], np.cumsum(sizes)))
    values = (rng.integers(1, n_values + 1, indptr[-1]) / n_values).astype(np.float32)
    likely = np.stack([values > rng.uniform(0, 1.2) for _ in range(N_CLASSES)])
    codes = rng.integers(-1, N_CLASSES + 1, indptr[-1]).astype(np.int16)
    codes = np.where(rng.random(len(codes)) < 0.5, likely.argmax(axis=0), codes).astype(np.int16)
    n_fit = rng.integers(0, 200, N_CLASSES + 1) + 1300
    n_fit[0] = np.count_nonzero(codes == 0)
    order = ranking(indptr, values)
    skill, threshold = np.full((len(sizes), N_CLASSES), np.nan), np.full((len(sizes), N_CLASSES), np.nan)
    choose_thresholds(
        indptr, order, values[order], codes[None], np.array([0]), np.array([0, N_CLASSES + 1]), np.array([0]), n_fit,
        skill, threshold,
    )  # fmt: skip
    for i in range(len(sizes)):
        own, classes = values[indptr[i] : indptr[i + 1]], codes[indptr[i] : indptr[i + 1]]
        for c in range(N_CLASSES):
            expected = _plainly(own, classes, c, int(n_fit[c]), int(n_fit.sum()))
            assert (skill[i, c], threshold[i, c]) == expected


def _plainly(values: np.ndarray, classes: np.ndarray, c: int, positive: int, total: int) -> tuple[float, float]:
    best, at, levels = 0.0, np.inf, np.unique(values)[::-1].astype(np.float64)
    for level, below in zip(levels, [*levels[1:], 0.0][: len(levels)], strict=True):
        found = values >= level
        right = np.count_nonzero(classes[found] == c)
        f1 = 2.0 * right / (np.count_nonzero(classes[found] >= 0) + positive)
        if f1 > best:
            best, at = f1, (level + below) / 2
    always = 2.0 * positive / (positive + total)
    return (best - always) / (1.0 - always), at
