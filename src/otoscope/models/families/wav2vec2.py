"""wav2vec 2.0, base and large, with and without a CTC head (Baevski et al. 2020; XLSR, XLS-R and their fine-tunes too).

The adapters of its kin (`hubert.py`, `wavlm.py` …) are this one with a few fields replaced.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from otoscope.errors import InputError
from otoscope.models.dims import SAMPLE_RATE_HZ, ConvLayer, Dims
from otoscope.models.families.adapter import Config, Family
from otoscope.models.networks.relative_positions import Distances
from otoscope.models.networks.wav2vec2 import Encoder, Positions, Wav2Vec2

WINDOW_S = 30
"""Longer clips are cut: attention takes time that grows with the square of the length."""


def read_dims(config: Config) -> Dims:
    """Read the sizes; whether there is a CTC head is what `architectures` says.

    Raises:
        InputError: the checkpoint has parts that no site of ours describes.
    """
    if config.get("add_adapter"):
        raise InputError("This checkpoint shortens its frames by an adapter (add_adapter); that is not supported.")
    if config.get("adapter_attn_dim"):
        raise InputError("This checkpoint adds adapters to its blocks (adapter_attn_dim, as MMS); not supported.")
    if config["feat_extract_norm"] not in ("group", "layer"):
        raise InputError(f"The front end's norm is {config['feat_extract_norm']!r}; it must be 'group' or 'layer'.")
    sizes = zip(config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True)
    dims = Dims(
        family=config["model_type"],
        n_layers=config["num_hidden_layers"],
        d_model=config["hidden_size"],
        n_heads=config["num_attention_heads"],
        d_mlp=config["intermediate_size"],
        window_samples=WINDOW_S * SAMPLE_RATE_HZ,
        convs=tuple(ConvLayer(*layer) for layer in sizes),
        norm="pre" if config.get("do_stable_layer_norm") else "post",
        n_vocab=config["vocab_size"] if _has_head(config) else 0,
    )
    return replace(dims, n_positions=dims.n_frames(dims.window_samples))


def _has_head(config: Config) -> bool:
    return any(name.endswith("ForCTC") for name in config.get("architectures") or ())


def build(
    config: Config, dims: Dims, *, positions: nn.Module | None = None, distances: Distances | None = None
) -> nn.Module:
    """Make the network: with other `positions` than one wide convolution's, with `distances` that bias attention."""
    front_activation = config.get("feat_extract_activation", "gelu")
    if positions is None:
        kernel, groups = config["num_conv_pos_embeddings"], config["num_conv_pos_embedding_groups"]
        rescaled = config.get("conv_pos_batch_norm", False)
        positions = Positions(dims.d_model, kernel, groups, front_activation, rescaled=rescaled)
    encoder = Encoder(
        dims,
        positions,
        conv_norm=config["feat_extract_norm"],
        conv_bias=config.get("conv_bias", False),
        conv_activation=front_activation,
        activation=config.get("hidden_act", "gelu"),
        project_norm=config.get("feat_proj_layer_norm", True),
        eps=config.get("layer_norm_eps", 1e-5),
        distances=distances,
    )
    return Wav2Vec2(encoder, nn.Linear(dims.d_model, dims.n_vocab) if dims.n_vocab else None)


_PLACE = "encoder.positions"
_NORM_AND_DIRECTION = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)
_BATCH_NORM_EPS = 1e-5


def fold_positions(left: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make one weight of a norm and a direction per tap (weight normalisation, Salimans & Kingma 2016), and a factor
    and an offset of a batch norm's statistics."""
    left = dict(left)
    for norm, direction in _NORM_AND_DIRECTION:
        names = f"{_PLACE}.conv.{norm}", f"{_PLACE}.conv.{direction}"
        if all(name in left for name in names):
            g, v = (left.pop(name).float() for name in names)
            left[f"{_PLACE}.conv.weight"] = v * (g / v.norm(dim=(0, 1), keepdim=True))
    if f"{_PLACE}.batch_norm.running_var" in left:
        mean, variance, weight, bias = (
            left.pop(f"{_PLACE}.batch_norm.{name}").float()
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        left[f"{_PLACE}.factor"] = weight / torch.sqrt(variance + _BATCH_NORM_EPS)
        left[f"{_PLACE}.offset"] = bias - mean * left[f"{_PLACE}.factor"]
    return left


FAMILY = Family(
    name="wav2vec2",
    hears="samples",
    dims=read_dims,
    build=build,
    names=(
        (r"^\w+\.(?=feature_extractor\.|feature_projection\.|encoder\.)", ""),
        (r"^lm_head\.", "head."),
        (r"^feature_extractor\.conv_layers\.(\d+)\.layer_norm\.", r"encoder.convs.\1.norm."),
        (r"^feature_extractor\.conv_layers\.", "encoder.convs."),
        (r"^feature_projection\.layer_norm\.", "encoder.features.norm."),
        (r"^feature_projection\.", "encoder.features."),
        (r"^encoder\.pos_conv_embed\.", "encoder.positions."),
        (r"^encoder\.layer_norm\.", "encoder.norm."),
        (r"^encoder\.layers\.", "encoder.blocks."),
        (r"(\.blocks\.\d+)\.layer_norm\.", r"\1.norm_attn."),
        (r"\.final_layer_norm\.", ".norm_mlp."),
        (r"\.attention\.(q|k|v|out)_proj\.", r".attn.\1."),
        (r"\.feed_forward\.intermediate_dense\.", ".mlp.up."),
        (r"\.feed_forward\.output_dense\.", ".mlp.down."),
    ),
    converted=fold_positions,
    unused=(r"^encoder\.positions\.batch_norm\.num_batches_tracked$",),
)
