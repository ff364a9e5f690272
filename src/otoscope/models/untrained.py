"""Networks that have learned nothing: the control beside every claim, and material for trials."""

from __future__ import annotations

import torch
from torch import nn

from otoscope.models.networks.blocks import sinusoids
from otoscope.models.networks.whisper import Encoder


def randomise(module: nn.Module, seed: int) -> None:
    """Overwrite all weights with random ones.

    Matrices are drawn with standard deviation 1/√fan_in (so that signals neither die nor explode), biases are 0,
    norms 1; fixed sinusoidal positions stay. Deterministic; the global random state is not touched.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, part in sorted(module.named_modules()):
            _randomise(part, generator)


def _randomise(part: nn.Module, generator: torch.Generator) -> None:
    for name, parameter in sorted(part.named_parameters(recurse=False)):
        if isinstance(part, nn.LayerNorm | nn.GroupNorm):
            parameter.fill_(1.0 if name == "weight" else 0.0)
        elif isinstance(part, Encoder) and name == "positions":
            parameter.copy_(sinusoids(*parameter.shape))
        elif name == "bias":
            parameter.zero_()
        else:
            fan_in = parameter[0].numel()
            drawn = torch.empty(parameter.shape).normal_(0.0, fan_in**-0.5, generator=generator)
            parameter.copy_(drawn)
