"""Which features write in nearly the same direction: the nearest by the cosine of their decoder rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from otoscope.atlas.building.statistics import Columns
from otoscope.dictionaries import Dictionary

N_NEIGHBOURS = 10
MAX_EXACT = 65_536
"""Beyond this many features (cosines grow with their square) neighbours are found on demand, feature by feature."""
WITHOUT_DIRECTIONS = ("neurons", "pca")
"""Kinds whose directions are orthogonal by construction, so that they say nothing of likeness."""
_BLOCK_NUMBERS = 1 << 24
_ROWS = 8192


def has_neighbours(dictionary: Dictionary) -> bool:
    """Whether an atlas of this dictionary stores the neighbours of its decoder rows."""
    return dictionary.kind not in WITHOUT_DIRECTIONS and dictionary.n_features <= MAX_EXACT


def decoder_neighbours(dictionary: Dictionary) -> Columns:
    """Return `neighbours [n, 10]` (int32, −1 for none) and `neighbour_cosines [n, 10]`, nearest first.

    Exact: all cosines are computed, a block of rows at a time.
    """
    rows = unit_rows(dictionary, range(dictionary.n_features))
    n = len(rows)
    k = min(N_NEIGHBOURS, n - 1)
    found: Columns = {
        "neighbours": np.full((n, N_NEIGHBOURS), -1, dtype=np.int32),
        "neighbour_cosines": np.full((n, N_NEIGHBOURS), np.nan, dtype=np.float16),
    }
    size = max(1, _BLOCK_NUMBERS // n)
    for start in range(0, n, size):
        block = rows[start : start + size]
        cosines = block @ rows.T
        cosines[torch.arange(len(block)), torch.arange(start, start + len(block))] = -torch.inf
        values, indices = cosines.topk(k, dim=1)
        found["neighbours"][start : start + size, :k] = indices.numpy()
        found["neighbour_cosines"][start : start + size, :k] = values.numpy()
    return found


def nearest_directions(
    dictionary: Dictionary, feature: int, top: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the features nearest to one, by the cosine of their decoder rows, and these cosines."""
    (own,) = unit_rows(dictionary, [feature])
    n = dictionary.n_features
    cosines = torch.cat(
        [unit_rows(dictionary, range(first, min(n, first + _ROWS))) @ own for first in range(0, n, _ROWS)]
    )
    cosines[feature] = -torch.inf
    values, indices = cosines.topk(min(top, n - 1))
    return indices.numpy(), values.numpy()


def unit_rows(dictionary: Dictionary, features: range | list[int]) -> Tensor:
    """Return decoder rows of length 1, `[len(features), d_out]` float32; rows of zeros stay so."""
    rows = dictionary.directions(list(features)).detach().float().cpu()
    return torch.nn.functional.normalize(rows, dim=1)
