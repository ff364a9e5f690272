"""Whisper of every size: tiny to large-v3, turbo, English-only, distilled and fine-tuned ones."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from otoscope.models.dims import ConvLayer, Dims
from otoscope.models.families.adapter import Config, Family, Names
from otoscope.models.networks.whisper import Whisper


def _dims(config: Config) -> Dims:
    d_model = config["d_model"]
    positions = config.get("max_source_positions", 1500)
    return Dims(
        family="whisper",
        n_layers=config["encoder_layers"],
        d_model=d_model,
        n_heads=config["encoder_attention_heads"],
        d_mlp=config.get("encoder_ffn_dim", 4 * d_model),
        window_samples=positions * 320,
        n_mels=config.get("num_mel_bins", 80),
        n_positions=positions,
        convs=(ConvLayer(d_model, 3, 1), ConvLayer(d_model, 3, 2)),
        n_decoder_layers=config["decoder_layers"],
        n_decoder_heads=config["decoder_attention_heads"],
        d_decoder_mlp=config.get("decoder_ffn_dim", 4 * d_model),
        n_text_positions=config.get("max_target_positions", 448),
        n_vocab=config["vocab_size"],
    )


def _build(config: Config, dims: Dims) -> nn.Module:
    return Whisper(
        dims,
        config.get("activation_function", "gelu"),
        scale_embedding=config.get("scale_embedding", False),
        tied=config.get("tie_word_embeddings", True),
    )


def _untie(module: nn.Module, left: Mapping[str, Tensor]) -> None:
    """Give the network an output layer of its own where the checkpoint stores one that differs from the embedding
    (fine-tunes whose configuration forgot to say so)."""
    stored = left.get("head.weight")
    if stored is None:
        return
    embedding = module.get_parameter("decoder.tokens.weight")
    weight = stored.to(embedding.dtype)
    if weight.shape == embedding.shape and not torch.equal(weight, embedding):
        head = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        head.weight = nn.Parameter(weight, requires_grad=False)
        module.head = head


FAMILY = Family(
    name="whisper",
    hears="mel",
    dims=_dims,
    build=_build,
    names=(
        (r"^model\.", ""),
        (r"^proj_out\.", "head."),
        (r"\.embed_positions\.weight$", ".positions"),
        (r"\.embed_tokens\.", ".tokens."),
        (r"\.layers\.", ".blocks."),
        (r"\.self_attn_layer_norm\.", ".norm_attn."),
        (r"\.encoder_attn_layer_norm\.", ".norm_cross."),
        (r"\.final_layer_norm\.", ".norm_mlp."),
        (r"\.layer_norm\.", ".norm_post."),
        (r"\.self_attn\.", ".attn."),
        (r"\.encoder_attn\.", ".cross."),
        (r"\.(q|k|v|out)_proj\.", r".\1."),
        (r"\.fc1\.", ".mlp.up."),
        (r"\.fc2\.", ".mlp.down."),
    ),
    finish=_untie,
)

_OPENAI_NAMES: Names = (
    (r"\.cross_attn_ln\.", ".norm_cross."),
    (r"\.attn_ln\.", ".norm_attn."),
    (r"\.mlp_ln\.", ".norm_mlp."),
    (r"\.cross_attn\.", ".cross."),
    (r"\.query\.", ".q."),
    (r"\.key\.", ".k."),
    (r"\.value\.", ".v."),
    (r"\.mlp\.0\.", ".mlp.up."),
    (r"\.mlp\.2\.", ".mlp.down."),
    (r"\.positional_embedding$", ".positions"),
    (r"\.token_embedding\.", ".tokens."),
    (r"\.ln_post\.", ".norm_post."),
    (r"^decoder\.ln\.", "decoder.norm_post."),
)
"""From the weight names of openai-whisper to those of our modules."""


def openai_name(name: str) -> str:
    """Return the name in our modules of a weight of openai-whisper."""
    for pattern, replacement in _OPENAI_NAMES:
        name = re.sub(pattern, replacement, name)
    return name
