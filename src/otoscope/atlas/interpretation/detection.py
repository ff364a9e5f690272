"""Is an explanation right? Whoever reads it must tell active from silent moments of voices that it was not made from.

Detection scoring after Paulo et al. (2024), "Automatically Interpreting Millions of Features in Large Language Models"
(arXiv 2410.13928, section 4), with two controls: the same explanation tried on the moments of random other features,
which says what it owes to being about any speech at all, and another feature's explanation tried on these moments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.atlas.interpretation.evidence import Trial
from otoscope.atlas.interpretation.sampling import Bools
from otoscope.evaluation.measure import percentiles

Floats = npt.NDArray[np.float64]

N_DRAWS = 2000
Judged = tuple[Bools, Bools]
"""Which moments are active, and which an explanation fits; both `[m]`."""
MIN_EACH = 5
"""With fewer active or silent moments nothing is scored."""


@dataclass(frozen=True)
class Score:
    """How well an explanation tells active from silent held-out moments.

    Attributes:
        balanced_accuracy: mean of the share of active moments that it fits and of silent ones that it does not.
        f1: harmonic mean of precision and recall on these moments, of which half are active.
        hits: share of active moments that it fits; `false_alarms`, `near_false_alarms`: share of silent moments
            anywhere, and of near misses, that it fits (NaN where there are none).
        null: mean balanced accuracy of the same explanation on the moments of `n_null` random features.
        lift: `balanced_accuracy − null`.
        shuffled: balanced accuracy of another feature's explanation on these moments; NaN where not tried.
        n_active, n_silent: moments.

    Names that end in `_low` and `_high` are 95 % intervals: bootstrap over moments within active and silent ones, their
    shares shrunk by half a moment (Jeffreys) so that no error at all does not mean certainty.
    """

    balanced_accuracy: float
    balanced_accuracy_low: float
    balanced_accuracy_high: float
    f1: float
    f1_low: float
    f1_high: float
    hits: float
    false_alarms: float
    near_false_alarms: float
    null: float
    lift: float
    lift_low: float
    lift_high: float
    shuffled: float
    n_active: int
    n_silent: int
    n_null: int

    @property
    def supported(self) -> bool:
        """Whether the explanation beats chance and the null, by the lower ends of their intervals."""
        return self.balanced_accuracy_low > 0.5 and self.lift_low > 0


def scorable(trial: Trial) -> bool:
    """Return whether there are enough moments of either sort."""
    n = int(trial.active.sum())
    return min(n, len(trial.active) - n) >= MIN_EACH


def score(trial: Trial, fits: Bools, null: Sequence[Judged], shuffled: Judged | None = None, seed: int = 0) -> Score:
    """Score an explanation.

    Args:
        trial: the moments, `scorable`.
        fits: `[m]` which of them the explanation fits.
        null: the same for the moments of random features.
        shuffled: which moments of this feature another feature's explanation fits.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    active = trial.active
    own, f1 = _drawn(active, fits, rng)
    low, high = (float(each) for each in percentiles(own))
    f1_low, f1_high = (float(each) for each in percentiles(f1))
    value = balanced_accuracy(active, fits)
    nulls = [balanced_accuracy(*each) for each in null]
    lift_draws = own - np.mean([_drawn(*each, rng)[0] for each in null], axis=0) if null else np.full(N_DRAWS, np.nan)
    lift_low, lift_high = (float(each) for each in percentiles(lift_draws))
    mean_null = float(np.mean(nulls)) if nulls else math.nan
    return Score(
        balanced_accuracy=value,
        balanced_accuracy_low=low,
        balanced_accuracy_high=high,
        f1=_f1(int((active & fits).sum()), int((~active & fits).sum()), int(active.sum())),
        f1_low=f1_low,
        f1_high=f1_high,
        hits=_share(fits[active]),
        false_alarms=_share(fits[~active & ~trial.near]),
        near_false_alarms=_share(fits[trial.near]),
        null=mean_null,
        lift=value - mean_null,
        lift_low=lift_low,
        lift_high=lift_high,
        shuffled=math.nan if shuffled is None else balanced_accuracy(*shuffled),
        n_active=int(active.sum()),
        n_silent=int((~active).sum()),
        n_null=len(nulls),
    )


def balanced_accuracy(active: Bools, fits: Bools) -> float:
    """Return the mean of the shares of active moments that fit and of silent ones that do not; both `[m]`."""
    return (_share(fits[active]) + 1 - _share(fits[~active])) / 2


def part_of(trial: Trial, n_each: int) -> Trial:
    """Return the first moments of a trial, at most `n_each` active and as many silent ones."""
    places = [np.flatnonzero(trial.active == side)[:n_each] for side in (True, False)]
    kept = np.sort(np.concatenate(places))
    return Trial([trial.moments[i] for i in kept], trial.active[kept], trial.near[kept], trial.measures[kept])


def _share(which: Bools) -> float:
    return float(which.mean()) if len(which) else math.nan


def _f1(hits: int, alarms: int, n_active: int) -> float:
    return 2 * hits / (hits + alarms + n_active) if hits + alarms + n_active else math.nan


def _drawn(active: Bools, fits: Bools, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Balanced accuracy and F1 of moments drawn anew, within the active and the silent ones."""
    n, m = int(active.sum()), int((~active).sum())
    hits, alarms = (
        rng.binomial(count, (int(fits[side].sum()) + 0.5) / (count + 1), N_DRAWS)
        for count, side in ((n, active), (m, ~active))
    )
    return (hits / n + 1 - alarms / m) / 2, 2 * hits / (hits + alarms + n)
