"""data2vec for audio, base and large, with and without a CTC head (Baevski et al. 2022): wav2vec 2.0's blocks, with
positions from a stack of narrow convolutions."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from otoscope.models.dims import Dims
from otoscope.models.families import wav2vec2
from otoscope.models.families.adapter import Config
from otoscope.models.networks.wav2vec2 import StackedPositions


def _dims(config: Config) -> Dims:
    return wav2vec2.read_dims({**config, "feat_extract_norm": "layer", "do_stable_layer_norm": False})


def _build(config: Config, dims: Dims) -> nn.Module:
    positions = StackedPositions(
        dims.d_model,
        config["num_conv_pos_embeddings"],
        config["conv_pos_kernel_size"],
        config["num_conv_pos_embedding_groups"],
        config.get("feat_extract_activation", "gelu"),
    )
    return wav2vec2.build({**config, "feat_extract_norm": "layer"}, dims, positions=positions)


FAMILY = replace(
    wav2vec2.FAMILY,
    name="data2vec-audio",
    dims=_dims,
    build=_build,
    names=(*wav2vec2.FAMILY.names, (r"^(encoder\.positions\.layers\.\d+)\.conv\.", r"\1.")),
)
