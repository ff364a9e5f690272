"""The only public form of feature activations: which features are active in each frame, and how strongly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.errors import InputError


@dataclass(frozen=True, eq=False)
class SparseCode:
    """The active features of `t` frames, at most `k` of them in each.

    An entry whose value is 0 is padding: it counts as inactive wherever its index points.

    Attributes:
        values: `[t, k]` floating point, strengths of the active features.
        indices: `[t, k]` int32 or int64, the features they belong to; no active feature twice in a frame.
        n_features: size of the dictionary, the upper limit of `indices`.
        scale, shift: `[t]`, what decoding multiplies and then adds, for dictionaries that normalise every frame
            (`Autoencoder.normalisation`); None: 1 and 0.
    """

    values: Tensor
    indices: Tensor
    n_features: int
    scale: Tensor | None = None
    shift: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape != self.indices.shape:
            raise InputError(
                "A SparseCode needs values and indices of one shape [frames, active], got "
                f"{list(self.values.shape)} and {list(self.indices.shape)}."
            )

    def __len__(self) -> int:
        """Number of frames."""
        return int(self.values.shape[0])

    @property
    def k(self) -> int:
        """Number of entries stored per frame, padding included."""
        return int(self.values.shape[1])

    @property
    def l0(self) -> Tensor:
        """Number of active features of each frame, `[t]` int64: zero-valued entries do not count."""
        return (self.values != 0).sum(dim=1)

    def feature(self, index: int) -> Tensor:
        """Return the strength of one feature in every frame, `[t]`.

        Raises:
            InputError: there is no such feature.
        """
        check_feature(index, self.n_features)
        return (self.values * (self.indices == index)).sum(dim=1)

    def features(self, indices: Tensor) -> Tensor:
        """Return the strengths of several features in every frame, `[t, len(indices)]`."""
        columns = [self.feature(int(index)) for index in indices]
        return torch.stack(columns, dim=1) if columns else self.values.new_zeros(len(self), 0)

    def dense(self) -> Tensor:
        """Return all strengths as `[t, n_features]`, zeros included."""
        full = self.values.new_zeros(len(self), self.n_features)
        return full.scatter_add_(1, self.indices.long(), self.values)

    @classmethod
    def joined(cls, codes: Sequence[SparseCode]) -> SparseCode:
        """Return the code of the frames of all `codes` (of one dictionary), one after another."""
        widest = max(code.values.shape[1] for code in codes)
        padded = [
            [torch.nn.functional.pad(part, (0, widest - part.shape[1])) for part in (code.values, code.indices)]
            for code in codes
        ]
        values, indices = (torch.cat(parts) for parts in zip(*padded, strict=True))
        kept = [[code.scale for code in codes], [code.shift for code in codes]]
        scale, shift = (torch.cat([p for p in parts if p is not None]) if None not in parts else None for parts in kept)
        return cls(values, indices, codes[0].n_features, scale, shift)

    def __getitem__(self, frames: slice) -> SparseCode:
        """Return the code of a range of frames."""
        scale, shift = (None if part is None else part[frames] for part in (self.scale, self.shift))
        return SparseCode(self.values[frames], self.indices[frames], self.n_features, scale, shift)

    def __repr__(self) -> str:
        active = float(self.l0.float().mean()) if len(self) else 0.0
        return f"SparseCode({len(self)} frames, {active:.1f} of {self.n_features} features active)"


def check_feature(index: int, n_features: int, owner: str = "this code") -> int:
    """Return `index` if it names one of `n_features` features.

    Raises:
        InputError: it does not; negative numbers are refused too.
    """
    if not 0 <= index < n_features:
        raise InputError(f"There is no feature {index} in {owner}: features go from 0 to {n_features - 1}.")
    return index
