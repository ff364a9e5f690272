"""Random directions of the same size: the control that every claim about a trained dictionary has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.kernels import encode_top_k, sparse_decode
from otoscope.dictionaries.registry import register
from otoscope.dictionaries.sparse_code import SparseCode
from otoscope.errors import InputError


@register
class RandomBasis(Dictionary):
    """Random unit directions, orthogonal within each block of `d`; the `k` strongest positive projections are kept.

    Args:
        site: canonical name of the site.
        d: its width.
        n_features: number of directions.
        seed: what they are drawn from.
        k: entries kept per frame.
        mean: `[d]`, subtracted first and added back, so that the control is not spent on the mean activation.
    """

    kind: ClassVar[str] = "random"

    def __init__(
        self,
        site: str,
        d: int,
        n_features: int,
        seed: int = 0,
        k: int = 32,
        *,
        mean: Tensor | None = None,
        name: str = "random",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if not 1 <= k <= n_features:
            raise InputError(f"k must be between 1 and the {n_features} features, got {k}.")
        super().__init__(name=name, site=site, d_in=d, n_features=n_features, metadata=metadata)
        self.seed = seed
        self.k = k
        self.rows = _orthogonal_blocks(n_features, d, seed)
        self.mean = torch.zeros(d) if mean is None else mean.detach().float().clone()

    def encode(self, x: Tensor) -> SparseCode:
        """Return the `k` strongest projections of `x` `[t, d]` on the directions."""
        centred = self._check_width(x).float() - self.mean
        values, indices = encode_top_k(centred, self.rows, centred.new_zeros(self.n_features), self.k)
        return SparseCode(values, indices, self.n_features)

    def decode(self, code: SparseCode) -> Tensor:
        """Return the sum of the active directions and the mean, `[t, d]`."""
        return sparse_decode(code.values, code.indices, self.rows) + self.mean

    def directions(self, features: Sequence[int]) -> Tensor:
        """Return the random directions of some features, `[len(features), d]`."""
        return self.rows[[self._check(index) for index in features]]

    def config(self) -> dict[str, Any]:
        """Return what the directions are drawn from."""
        return {"d_in": self.d_in, "d_sae": self.n_features, "k": self.k, "seed": self.seed}

    def tensors(self) -> dict[str, Tensor]:
        """Return the directions and the mean under SAELens' names, so that they stay what they were."""
        return {"W_dec": self.rows, "b_dec": self.mean}

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> RandomBasis:
        """Build the basis from its saved directions."""
        n, d = tensors["W_dec"].shape
        basis = cls.__new__(cls)
        Dictionary.__init__(basis, name=name, site=site, d_in=d, n_features=n)
        basis.seed, basis.k = int(config["seed"]), int(config["k"])
        basis.rows, basis.mean = tensors["W_dec"], tensors["b_dec"]
        return basis


def _orthogonal_blocks(n: int, d: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    blocks = [torch.linalg.qr(torch.randn(d, d, generator=generator))[0] for _ in range(-(-n // d))]
    return torch.cat(blocks)[:n].contiguous()
