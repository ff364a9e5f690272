"""What one run of a model over a clip has read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.clock import Clock
from otoscope.models.dims import Dims
from otoscope.models.sites import parse_site


@dataclass(frozen=True, eq=False)
class Run(Mapping[str, Tensor]):
    """Activations of one clip by site: `(frames, d)` or, for attention maps, `(heads, q, k)`; float32 on the CPU.

    Only valid frames (those the clip fills) are in it; windows of a long clip follow one another. Any name of a
    site will do as a key; iterating gives canonical names.
    """

    clip_id: str
    model: str
    dims: Dims
    tensors: Mapping[str, Tensor]

    def __getitem__(self, site: str) -> Tensor:
        name = parse_site(site, self.dims).name
        if name not in self.tensors:
            raise InputError(f"This run did not read {name}; it read {', '.join(self.tensors)}.")
        return self.tensors[name]

    def __contains__(self, site: object) -> bool:
        try:
            return isinstance(site, str) and parse_site(site, self.dims).name in self.tensors
        except InputError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def times_s(self, site: str) -> np.ndarray:
        """Return the seconds at which the frames of `site` are centred, `[frames]`."""
        parsed = parse_site(site, self.dims)
        frames = self[site].shape[-2]
        return np.arange(frames) / Clock(1.0 / parsed.hz).positions_hz

    def __repr__(self) -> str:
        sites = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.tensors.items())
        return f"Run({self.clip_id!r} on {self.model}: {sites})"
