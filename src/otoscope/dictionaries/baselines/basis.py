"""Dictionaries that are nothing but directions: the strongest positive projections of a frame are its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.kernels import encode_top_k, sparse_decode
from otoscope.dictionaries.sparse_code import SparseCode
from otoscope.errors import InputError


class Basis(Dictionary):
    """Unit directions without training: the `k` strongest positive projections of a frame are kept.

    Attributes:
        rows: `[n, d]`, the directions.
        mean: `[d]`, subtracted first and added back, so that no direction is spent on the mean activation.
        k: entries kept per frame.
    """

    def __init__(
        self,
        site: str,
        rows: Tensor,
        k: int,
        *,
        mean: Tensor | None = None,
        name: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        n, d = rows.shape
        if not 1 <= k <= n:
            raise InputError(f"k must be between 1 and the {n} features, got {k}.")
        super().__init__(name=name, site=site, d_in=d, n_features=n, metadata=metadata)
        self.rows, self.k = rows, k
        self.mean = rows.new_zeros(d) if mean is None else mean.detach().float().clone()

    def encode(self, x: Tensor) -> SparseCode:
        """Return the `k` strongest projections of `x` `[t, d]` on the directions."""
        centred = self._check_width(x).float() - self.mean
        values, indices = encode_top_k(centred, self.rows, centred.new_zeros(self.n_features), self.k)
        return SparseCode(values, indices, self.n_features)

    def decode(self, code: SparseCode) -> Tensor:
        """Return the sum of the active directions and the mean, `[t, d]`."""
        return sparse_decode(code.values, code.indices, self.rows) + self.mean

    def directions(self, features: Sequence[int]) -> Tensor:
        """Return some of the directions, `[len(features), d]`."""
        return self.rows[[self._check(index) for index in features]]

    def config(self) -> dict[str, Any]:
        """Return the sizes."""
        return {"d_in": self.d_in, "d_sae": self.n_features, "k": self.k}

    def tensors(self) -> dict[str, Tensor]:
        """Return the directions and the mean under SAELens' names, so that they stay what they were."""
        return {"W_dec": self.rows, "b_dec": self.mean}
