"""Random directions of the same size: the control that every claim about a trained dictionary has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.baselines.basis import Basis
from otoscope.dictionaries.registry import register
from otoscope.errors import InputError


@register
class RandomBasis(Basis):
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
        rows = _orthogonal_blocks(n_features, d, seed)
        super().__init__(site, rows, k, mean=mean, name=name, metadata=metadata)
        self.seed = seed

    def config(self) -> dict[str, Any]:
        """Return the sizes and what the directions are drawn from."""
        return {**super().config(), "seed": self.seed}

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> RandomBasis:
        """Build the basis from its saved directions."""
        basis = cls.__new__(cls)
        Basis.__init__(basis, site, tensors["W_dec"], int(config["k"]), mean=tensors["b_dec"], name=name)
        basis.seed = int(config["seed"])
        return basis


def _orthogonal_blocks(n: int, d: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    blocks = [torch.linalg.qr(torch.randn(d, d, generator=generator))[0] for _ in range(-(-n // d))]
    return torch.cat(blocks)[:n].contiguous()
