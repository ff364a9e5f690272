"""Adam and what dictionaries need around it, compiled for the CPU: two passes over memory for a whole update.

The first pass finds how long the gradient is, less what points along rows of fixed length; the second changes moments
and rows. Threads share rows, so that the result does not depend on their number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from otoscope.dictionaries.kernels.compiled import TINY, ZERO, jit, share

_LEAST = 64  # rows of a thread's share


class Rates(NamedTuple):
    """One update: moments decay by `decay` and `decay_square`; a row moves by `step · mean / (√square + eps)`.

    With `plain` it moves by `step · mean`, as RAdam does in its first steps.
    """

    decay: float
    decay_square: float
    step: float
    eps: float
    plain: bool = False


def gradient_squares(gradient: Tensor, rows: Tensor, *, unit: bool) -> tuple[Tensor, Tensor]:
    """Return the squared length of each row of `gradient` `[r, d]` and the part of it that points along the row.

    Where rows have `unit` length that part is left out of the squared length; otherwise it is 0.
    """
    squares, along = torch.empty(2, len(rows))
    share(_squares, len(rows), *_arrays(gradient, rows), unit, squares.numpy(), along.numpy(), least=_LEAST)
    return squares, along


def update_rows(
    rows: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    along: Tensor,
    scale: float,
    rates: Rates,
    *,
    unit: bool,
) -> None:
    """Change `rows`, `mean` and `square` `[r, d]` in place by `gradient · scale`, less what points `along` the rows.

    Rows of `unit` length are brought back to it.
    """
    numbers = [np.float32(value) for value in (scale, rates.decay, rates.decay_square, rates.step, rates.eps)]
    arrays = _arrays(rows, gradient, mean, square, along)
    share(_update, len(rows), *arrays, *numbers, rates.plain, unit, least=_LEAST)


def _arrays(*tensors: Tensor) -> list[np.ndarray[Any, Any]]:
    return [tensor.detach().numpy() for tensor in tensors]


@jit
def _squares(start: int, stop: int, gradients: Any, rows: Any, unit: bool, squares: Any, along: Any) -> None:
    d = rows.shape[1]
    for r in range(start, stop):
        gradient, row = gradients[r], rows[r]
        along[r], total = ZERO, ZERO
        if unit:
            dot = ZERO
            for c in range(d):
                dot += gradient[c] * row[c]
            for c in range(d):
                rest = gradient[c] - dot * row[c]
                total += rest * rest
            along[r] = dot
        else:
            for c in range(d):
                total += gradient[c] * gradient[c]
        squares[r] = total


@jit
def _learn(
    row: Any, gradient: Any, mean: Any, square: Any, dot: Any, scale: Any, decay: Any, decay_square: Any
) -> None:
    one = np.float32(1)
    for c in range(row.shape[0]):
        rest = (gradient[c] - dot * row[c]) * scale
        mean[c] += (rest - mean[c]) * (one - decay)
        square[c] = square[c] * decay_square + rest * rest * (one - decay_square)


@jit
def _move(row: Any, mean: Any, square: Any, step: Any, eps: Any, plain: bool) -> None:
    if plain:
        for c in range(row.shape[0]):
            row[c] -= step * mean[c]
    else:
        for c in range(row.shape[0]):
            row[c] -= step * mean[c] / (np.sqrt(square[c]) + eps)


@jit
def _normalise(row: Any) -> None:
    total = ZERO
    for c in range(row.shape[0]):
        total += row[c] * row[c]
    length = max(np.sqrt(total), TINY)
    for c in range(row.shape[0]):
        row[c] /= length


@jit
def _update(
    start: int,
    stop: int,
    rows: Any,
    gradients: Any,
    means: Any,
    squares: Any,
    along: Any,
    scale: Any,
    decay: Any,
    decay_square: Any,
    step: Any,
    eps: Any,
    plain: bool,
    unit: bool,
) -> None:
    for r in range(start, stop):
        row, mean, square = rows[r], means[r], squares[r]
        _learn(row, gradients[r], mean, square, along[r], scale, decay, decay_square)
        _move(row, mean, square, step, eps, plain)
        if unit:
            _normalise(row)
