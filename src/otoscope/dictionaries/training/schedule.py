"""How long to train and how fast to learn."""

from __future__ import annotations

PASSES = 40
MIN_STEPS = 1_000
MAX_STEPS = 100_000


def default_steps(n_frames: int, batch_size: int) -> int:
    """Return the optimiser steps for a store of `n_frames`: about 40 passes, within reason."""
    return min(max(PASSES * n_frames // batch_size, MIN_STEPS), MAX_STEPS)


def default_learning_rate(n_features: int) -> float:
    """Return `2e-4 / sqrt(n / 2^14)` (Gao et al. 2024, section 2 and appendix A)."""
    return float(2e-4 / (n_features / 2**14) ** 0.5)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the rate at `step`: a linear warm-up, flat, and a linear fall to 0 over the last fifth of the run.

    The warm-up takes 1,000 steps, or a twentieth of a short run.
    """
    warm_up = min(1_000, max(steps // 20, 1))
    fall = max(steps // 5, 1)
    return peak * min(1.0, (step + 1) / warm_up, (steps - step) / fall)
