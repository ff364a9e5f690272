"""The neuron basis: every unit of a site as two features, one for each sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.registry import register
from otoscope.dictionaries.sparse_code import SparseCode


@register
class Neurons(Dictionary):
    """The units of a site, both signs, without loss.

    Feature `i < d` is `relu(unit i)`; feature `i >= d` is `relu(−unit (i − d))`, printed as `"12−"`. A frame has
    `d` entries: every unit on the side where it is.

    >>> Neurons("encoder.2.mlp.post", 4).encode(torch.tensor([[1.0, -2.0, 0.0, 3.0]])).dense().tolist()
    [[1.0, 0.0, 0.0, 3.0, 0.0, 2.0, 0.0, 0.0]]
    """

    kind: ClassVar[str] = "neurons"
    dense: ClassVar[bool] = True

    def __init__(self, site: str, d: int, *, name: str = "neurons", metadata: Mapping[str, Any] | None = None) -> None:
        super().__init__(name=name, site=site, d_in=d, n_features=2 * d, metadata=metadata)

    def encode(self, x: Tensor) -> SparseCode:
        """Return every unit of `x` `[t, d]` as its magnitude on its side."""
        self._check_width(x)
        units = torch.arange(self.d_in, dtype=torch.int32, device=x.device)
        return SparseCode(x.abs(), torch.where(x < 0, units + self.d_in, units), self.n_features)

    def decode(self, code: SparseCode) -> Tensor:
        """Return the units `[t, d]` of a code of any width."""
        negative = code.indices >= self.d_in
        signed = torch.where(negative, -code.values, code.values)
        units = torch.where(negative, code.indices - self.d_in, code.indices).long()
        return signed.new_zeros(len(code), self.d_in).scatter_add_(1, units, signed)

    def feature_values(self, h: Tensor, features: Sequence[int]) -> Tensor:
        """Return the strengths of some features on `h` `[…, d]`, as `[…, len(features)]`."""
        units, signs = self._units(features)
        return (h[..., units.to(h.device)] * signs.to(h)).relu()

    def directions(self, features: Sequence[int]) -> Tensor:
        """Return plus or minus one unit vector for each feature, `[len(features), d]`."""
        units, signs = self._units(features)
        return signs[:, None] * torch.nn.functional.one_hot(units, self.d_in)

    def unit_label(self, index: int) -> str:
        """Return the unit's number, with a minus sign after it for the negative side."""
        self._check(index)
        return str(index) if index < self.d_in else f"{index - self.d_in}−"

    def config(self) -> dict[str, Any]:
        """Return the width: neurons have no weights."""
        return {"d_in": self.d_in, "d_sae": self.n_features}

    @classmethod
    def from_saved(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str) -> Neurons:
        """Build the neurons of a saved width."""
        return cls(site, int(config["d_in"]), name=name)

    def _units(self, features: Sequence[int]) -> tuple[Tensor, Tensor]:
        indices = torch.tensor([self._check(index) for index in features], dtype=torch.long)
        negative = indices >= self.d_in
        return indices - self.d_in * negative, 1.0 - 2.0 * negative
