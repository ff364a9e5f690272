"""Dynamic time warping: the cheapest monotone path through a matrix of costs."""

from __future__ import annotations

import numpy as np

from otoscope.errors import InputError


def dtw(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `(rows, columns)` of the cheapest path from the first to the last corner of `cost [n, m]`.

    Each step goes one row down, one column right, or both; both arrays never decrease, and every row and every column
    is visited. Sums are kept in float32 as in `whisper.timing.dtw_cpu`, whose path this is wherever costs differ (where
    going down and both are equally good, that one goes right, at a higher cost).

    >>> rows, columns = dtw(np.array([[0.0, 9.0, 9.0], [9.0, 0.0, 0.0]]))
    >>> list(zip(rows.tolist(), columns.tolist(), strict=True))
    [(0, 0), (1, 1), (1, 2)]

    Raises:
        InputError: not a matrix, empty, or with numbers that are not finite.
    """
    matrix = np.ascontiguousarray(cost, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size:
        raise InputError(f"dtw takes a matrix of costs with at least one row and column, not shape {matrix.shape}.")
    if not np.isfinite(matrix).all():
        raise InputError("dtw takes finite costs; the matrix contains NaN or infinity.")
    from otoscope.models.generation.warping_kernel import cheapest_path

    path = cheapest_path(matrix)
    return path[:, 0], path[:, 1]
