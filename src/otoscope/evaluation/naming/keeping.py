"""Which pairs of feature and class are worth a row, judged by the half that chooses."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

N_RANKED = 10
"""Classes kept for every feature."""
N_BEST = 20
"""Features kept for every class."""
MIN_CLASS_SKILL = 0.05
"""A feature is among a class's best only if it finds the class so well."""


class BestFeatures:
    """The best skills of every class so far: pairs below them need no row. Never loses one that is among the best."""

    def __init__(self, n_classes: int) -> None:
        self._lock = threading.Lock()
        self._best = np.zeros((N_BEST, n_classes))

    def keep(self, skill: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        with self._lock:
            least = np.maximum(self._best.min(axis=0), MIN_CLASS_SKILL)
            found = np.flatnonzero((skill >= least).any(axis=0))
            together = np.concatenate([self._best[:, found], skill[:, found]]).T.copy()
            together.partition(len(skill), axis=1)
            self._best[:, found] = together[:, len(skill) :].T
            return np.asarray(skill >= np.maximum(self._best.min(axis=0), MIN_CLASS_SKILL))


def worth_keeping(skill: npt.NDArray[np.float64], best: BestFeatures) -> npt.NDArray[np.bool_]:
    """Pairs better than always-on that are among a feature's best classes, ties included, or a class's best features.

    What is kept for the sake of a class depends on which features came before; what is a feature's does not.
    """
    keep, at = best.keep(skill), skill.shape[1] - N_RANKED
    if at > 0:
        keep |= skill >= np.partition(skill, at, axis=1)[:, at : at + 1]
    else:
        keep[:] = True
    return keep & (skill > 0)
