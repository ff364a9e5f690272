"""Which classes some unit detects: pairs of unit and class chosen on one half of the voices, scored on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.evaluation.selectivity import Floats, Ints, auroc_matrix, purity


@dataclass(frozen=True)
class BestUnits:
    """For each class: the unit chosen for it, its side (−1: low values mean the class), and AUROC on either half.

    Attributes:
        unit, side: `[c]`, chosen on the first half.
        chosen: `[c]` AUROC on the first half, where the pair was chosen.
        scored: `[c]` AUROC on the second half; NaN for classes absent from a half.
    """

    unit: npt.NDArray[np.int64]
    side: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.float64]
    scored: npt.NDArray[np.float64]


def best_units(values: Floats, labels: Sequence[Ints], half: Ints, n_classes: int) -> list[BestUnits]:
    """Choose the best unit and side for each class on half 0 and score it on half 1, for several labellings.

    `values [t, u]`, `labels` of `[t]` (−1 dropped), `half [t]` 0 or 1.
    """
    first, second = (
        auroc_matrix(values[half == side], [each[half == side] for each in labels], n_classes) for side in (0, 1)
    )
    return [_choose(a, b) for a, b in zip(first, second, strict=True)]


def _choose(first: Floats, second: Floats) -> BestUnits:
    strength = np.nan_to_num(np.abs(first - 0.5), nan=-1.0)
    unit = strength.argmax(axis=0)
    classes = np.arange(first.shape[1])
    chosen, scored = first[unit, classes].astype(np.float64), second[unit, classes].astype(np.float64)
    side = np.where(chosen < 0.5, -1, 1)
    return BestUnits(unit, side, np.where(side < 0, 1 - chosen, chosen), np.where(side < 0, 1 - scored, scored))


def held_out_purity(
    values: Floats, labels: Ints, half: Ints, *, share: float = 0.05, min_frames: int = 10
) -> npt.NDArray[np.float64]:
    """Purity of every unit's strongest active frames, `[u]`: the class chosen on half 0, its share taken on half 1.

    NaN for units with fewer than `min_frames` active labelled frames in either half; see `selectivity.purity`.
    """
    result = np.full(values.shape[1], np.nan)
    first, second = half == 0, half == 1
    for unit in range(values.shape[1]):
        column = values[:, unit]
        chosen = purity(column[first], labels[first], share=share, min_frames=min_frames)
        if chosen.label >= 0:
            result[unit] = purity(
                column[second], labels[second], label=chosen.label, share=share, min_frames=min_frames
            ).share
    return result
