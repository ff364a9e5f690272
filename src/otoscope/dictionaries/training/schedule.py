"""How long to train and how fast to learn."""

from __future__ import annotations

import math
from typing import Literal

PASSES = 40
MIN_STEPS = 1_000
MAX_STEPS = 100_000

Schedule = Literal["linear", "cosine", "constant"]


def default_steps(n_frames: int, batch_size: int) -> int:
    """Return the optimiser steps for a store of `n_frames`: about 40 passes, within reason."""
    return min(max(PASSES * n_frames // batch_size, MIN_STEPS), MAX_STEPS)


def default_learning_rate(n_features: int) -> float:
    """Return `2e-4 / sqrt(n / 2^14)` (Gao et al. 2024, section 2 and appendix A)."""
    return float(2e-4 / (n_features / 2**14) ** 0.5)


def learning_rate(
    step: int,
    steps: int,
    peak: float,
    *,
    schedule: Schedule = "linear",
    warm_up: int | None = None,
    decay: float = 0.2,
) -> float:
    """Return the rate at `step`: a linear warm-up to `peak`, then what the schedule says.

    "linear": flat, and a linear fall to 0 over the last share `decay` of the run. "cosine": a half cosine from `peak`
    to 0 over all steps after the warm-up. "constant": flat. The warm-up takes `warm_up` steps; None: 1,000, or a
    twentieth of a short run.
    """
    warm_up = min(1_000, max(steps // 20, 1)) if warm_up is None else warm_up
    rise = (step + 1) / warm_up if warm_up else 1.0
    if schedule == "constant":
        return peak * min(1.0, rise)
    if schedule == "cosine":
        done = max(step - warm_up, 0) / max(steps - warm_up, 1)
        return peak * min(rise, 0.5 * (1 + math.cos(math.pi * done)))
    fall = max(int(steps * decay), 1)
    return peak * min(1.0, rise, (steps - step) / fall)
