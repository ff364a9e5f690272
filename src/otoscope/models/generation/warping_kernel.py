"""The compiled loops of dynamic time warping (apart, so that loading a model does not load the compiler)."""

from __future__ import annotations

import numba
import numpy as np

_DIAGONAL, _DOWN, _RIGHT = 0, 1, 2


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def cheapest_path(cost: np.ndarray) -> np.ndarray:  # pragma: no cover (compiled)
    """Return the cells `[p, 2]` of the cheapest path through `cost [n, m]`, float64."""
    n, m = cost.shape
    total = np.full((n + 1, m + 1), np.inf, dtype=np.float32)
    came = np.empty((n + 1, m + 1), dtype=np.int8)
    total[0, 0] = 0
    came[0, :] = _RIGHT
    came[:, 0] = _DOWN
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            diagonal, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
            if diagonal <= down and diagonal < right:
                total[i, j] = cost[i - 1, j - 1] + diagonal
                came[i, j] = _DIAGONAL
            elif down < diagonal and down < right:
                total[i, j] = cost[i - 1, j - 1] + down
                came[i, j] = _DOWN
            else:
                total[i, j] = cost[i - 1, j - 1] + right
                came[i, j] = _RIGHT
    path = np.empty((n + m, 2), dtype=np.int64)
    length, i, j = 0, n, m
    while i > 0 or j > 0:
        path[length] = i - 1, j - 1
        length += 1
        step = came[i, j]
        if step != _RIGHT:
            i -= 1
        if step != _DOWN:
            j -= 1
    return path[:length][::-1].copy()
