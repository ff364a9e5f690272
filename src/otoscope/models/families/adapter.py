"""What an adapter says about a family of models: everything the rest of the package needs to load and run one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from otoscope.models.dims import Dims

Config = Mapping[str, Any]
"""A checkpoint's `config.json`."""
Names = tuple[tuple[str, str], ...]
"""Rewriting rules of weight names, applied in order: a regular expression and what replaces it."""


@dataclass(frozen=True)
class Family:
    """One kind of model. Adding one is writing one of these in a file of this folder and naming it in `FAMILIES`."""

    name: str
    """Its name in `Dims.family`; also `model_type` in the `config.json` of its Hugging Face checkpoints."""
    hears: Literal["mel", "samples"]
    """What the network is fed: padded log-mel windows, or the samples themselves."""
    dims: Callable[[Config], Dims]
    """Read the sizes out of a configuration."""
    build: Callable[[Config, Dims], nn.Module]
    """Make the network (with `encode`, and `decode` or `letters`; see `modules/`), its weights not yet set."""
    names: Names
    """From the weight names of Hugging Face's checkpoints to those of our modules."""
    unused: tuple[str, ...] = ()
    """Regular expressions of (rewritten) weight names inside the encoder or decoder that the network has no use for."""
    converted: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda left: left
    """Make the network's weights out of those that have no place in it under their new names, or not of its shape
    (two halves of a normalised weight, say); what stays without a place is returned as it is."""
    finish: Callable[[nn.Module, Mapping[str, Tensor]], None] = lambda module, left: None
    """Look at what stayed without a place, once all else is in; may add parts to the network."""

    def rename(self, name: str) -> str:
        """Return the name in our modules of a checkpoint's weight."""
        for pattern, replacement in self.names:
            name = re.sub(pattern, replacement, name)
        return name
