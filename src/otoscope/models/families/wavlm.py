"""WavLM, base, base+ and large, with and without a CTC head (Chen et al. 2022): attention knows distances."""

from __future__ import annotations

import re
from dataclasses import replace

from torch import Tensor, nn

from otoscope.models.dims import Dims
from otoscope.models.families import wav2vec2
from otoscope.models.families.adapter import Config
from otoscope.models.networks.relative_positions import Distances


def _build(config: Config, dims: Dims) -> nn.Module:
    farthest = config.get("max_bucket_distance", 800)
    return wav2vec2.build(config, dims, distances=Distances(config.get("num_buckets", 320), dims.n_heads, farthest))


def _converted(left: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add up the projections that the checkpoint makes only to sum them, four for each part of the gate."""
    made = wav2vec2.fold_positions(left)
    for name, value in made.items():
        if re.search(r"\.gate\.linear\.(weight|bias)$", name):
            made[name] = value.float().view(2, 4, *value.shape[1:]).sum(1)
        elif name.endswith(".gate.constant"):
            made[name] = value.flatten()
    return made


FAMILY = replace(
    wav2vec2.FAMILY,
    name="wavlm",
    build=_build,
    names=(
        *wav2vec2.FAMILY.names,
        (r"\.blocks\.0\.attention\.rel_attn_embed\.", ".distances."),
        (r"\.attention\.gru_rel_pos_const$", ".attn.gate.constant"),
        (r"\.attention\.gru_rel_pos_linear\.", ".attn.gate.linear."),
    ),
    converted=_converted,
)
