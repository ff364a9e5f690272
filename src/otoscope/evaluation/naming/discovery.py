"""Which of many labels may be believed: false-discovery rates where each feature is tested against many classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.evaluation.selectivity import benjamini_hochberg

RATE = 0.05
"""The false-discovery rate at which labels are given."""


def family_q_values(
    p_values: npt.NDArray[np.float64], family: npt.NDArray[np.integer], rate: float = RATE
) -> npt.NDArray[np.float64]:
    """Return adjusted p-values of tests that come in families (a feature and its classes), for a false-discovery rate.

    Benjamini and Bogomolov (2014), "Selective inference on multiple families of hypotheses": families are selected by
    Benjamini–Hochberg on their Simes p-values, and tested within by Benjamini–Hochberg at the rate times the share of
    families selected. So the rate holds on average over the selected features, of which one label each is shown; plain
    Benjamini–Hochberg over all pairs would hold over pairs, most of which belong to a few features.
    """
    result = np.ones(len(p_values))
    order = np.lexsort((p_values, family))
    ranked, owner = p_values[order], family[order]
    _, first, own, size = np.unique(owner, return_index=True, return_inverse=True, return_counts=True)
    if len(size) == 0:
        return result
    place = np.arange(len(order)) - first[own] + 1
    scaled = np.minimum(ranked * size[own] / place, 1.0)
    simes = np.minimum.reduceat(scaled, first)
    selected = benjamini_hochberg(simes)
    share = max(int((selected <= rate).sum()), 1) / len(simes)
    within = np.empty_like(scaled)
    least = np.inf
    for i in range(len(scaled) - 1, -1, -1):  # the running minimum from each family's largest p-value down
        least = scaled[i] if i + 1 == len(scaled) or own[i + 1] != own[i] else min(least, scaled[i])
        within[i] = least
    result[order] = np.minimum(np.maximum(selected[own], within / share), 1.0)
    return result
