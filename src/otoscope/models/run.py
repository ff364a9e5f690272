"""What one run of a model over a clip has read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.dims import Dims
from otoscope.models.sites import parse_site


@dataclass(frozen=True)
class Position:
    """One token that the decoder read: a row of its sites (of `logits`, the scores of the token that follows)."""

    id: int
    text: str
    kind: Literal["prompt", "text"]
    window: int = 0
    """Which window of the clip it belongs to."""


@dataclass(frozen=True, eq=False)
class Run(Mapping[str, Tensor]):
    """Activations of one clip by site: `(frames, d)`, decoder sites `(tokens, d)`, attention maps `(heads, q, k)`;
    float32 on the CPU.

    Only valid frames (those the clip fills) are in it; windows of a long clip follow one another. Any name of a
    site will do as a key; iterating gives canonical names.
    """

    clip_id: str
    model: str
    dims: Dims
    tensors: Mapping[str, Tensor]
    positions: tuple[Position, ...] = ()
    """The tokens that the rows of decoder sites stand for; empty when no decoder site was read."""

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
        """Return the seconds at which the frames of `site` are centred, `[frames]`.

        Raises:
            InputError: the site was not read, or its positions are tokens (see `positions`).
        """
        clock = parse_site(site, self.dims).clock(self.dims)
        frames = self[site].shape[-2]
        return np.arange(frames) / clock.positions_hz + clock.offset_s

    def __repr__(self) -> str:
        sites = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.tensors.items())
        return f"Run({self.clip_id!r} on {self.model}: {sites})"
