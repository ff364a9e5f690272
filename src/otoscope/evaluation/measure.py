"""One figure of an evaluation with its uncertainty: every measurement gives rows of this one shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

N_BOOTSTRAP = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Measure:
    """One figure.

    Attributes:
        name: dotted path of what was measured, e.g. `reconstruction.fvu`, `probe.accuracy`.
        value: the figure.
        low, high: its 95 % interval (bootstrap over clips, or over speakers where said); NaN: none.
        of: to what it belongs, e.g. `{"class": "vowel"}`, `{"k": "5", "basis": "pca"}`; empty: the whole dictionary.
        n: how many clips, frames, words… it rests on; `n_unit` says of what.
        n_unit: what `n` counts.
    """

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    of: Mapping[str, str] | None = None
    n: int = 0
    n_unit: str = "frames"

    def __str__(self) -> str:
        where = "" if not self.of else " (" + ", ".join(f"{k} {v}" for k, v in self.of.items()) + ")"
        interval = "" if math.isnan(self.low) else f" [{self.low:.4g}, {self.high:.4g}]"
        return f"{self.name}{where} = {self.value:.4g}{interval}"


def clustered_interval(
    per_cluster: Floats, statistic: Callable[[Floats], Floats], *, seed: int = 0, draws: int = N_BOOTSTRAP
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic of sums over clusters (clips or speakers).

    Args:
        per_cluster: `[c, m]`, sums of each cluster, e.g. squared error and variance.
        statistic: from sums over drawn clusters `[draws, m]` to the figure `[draws]`, e.g.
            `lambda s: s[:, 0] / s[:, 1]`.
        seed: of the draws.
        draws: number of bootstrap draws.

    With fewer than two clusters there is no interval: both ends are NaN.
    """
    if len(per_cluster) < 2:
        return math.nan, math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.asarray(statistic(drawn_sums(per_cluster, seed=seed, draws=draws)), dtype=np.float64)
    low, high = percentiles(drawn)
    return float(low), float(high)


def drawn_sums(per_cluster: Floats, *, seed: int = 0, draws: int = N_BOOTSTRAP) -> Floats:
    """Return sums `[draws, m]` over as many clusters as there are, drawn with replacement from `per_cluster [c, m]`."""
    c = len(per_cluster)
    weights = np.random.default_rng(seed).multinomial(c, np.full(c, 1 / c), size=draws)
    return np.asarray(weights @ per_cluster, dtype=np.float64)


def percentiles(drawn: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the 95 % interval of figures `[draws, …]` that were drawn; NaN where all draws are."""
    tail = (1 - LEVEL) / 2
    none = np.isnan(drawn).all(axis=0)
    low, high = np.nanquantile(np.where(none, 0.0, drawn), [tail, 1 - tail], axis=0)
    return np.where(none, np.nan, low), np.where(none, np.nan, high)
