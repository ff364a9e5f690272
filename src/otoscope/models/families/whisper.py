"""Whisper: where Hugging Face's modules hold each site."""

from __future__ import annotations

from typing import Any

from otoscope.models.arithmetic import use_fast_linear
from otoscope.models.attention import NAME, name_attention
from otoscope.models.dims import Dims
from otoscope.models.taps import Tap, install_taps

_BLOCK = "model.encoder.layers.L"

TAPS: tuple[Tap, ...] = (
    Tap("mel", "model.encoder.conv1", "input", channels_first=True),
    Tap("encoder.conv1", "model.encoder.conv1", channels_first=True),
    Tap("encoder.conv2", "model.encoder.conv2", channels_first=True),
    Tap("encoder.embed", "model.encoder.layers.0", "input"),
    Tap("encoder.L.resid_pre", _BLOCK, "input"),
    Tap("encoder.L.attn.q", f"{_BLOCK}.self_attn.q_proj"),
    Tap("encoder.L.attn.k", f"{_BLOCK}.self_attn.k_proj"),
    Tap("encoder.L.attn.v", f"{_BLOCK}.self_attn.v_proj"),
    Tap("encoder.L.attn.z", f"{_BLOCK}.self_attn.out_proj", "input"),
    Tap("encoder.L.attn.out", f"{_BLOCK}.self_attn.out_proj"),
    Tap("encoder.L.resid_mid", f"{_BLOCK}.final_layer_norm", "input", in_place=True),
    Tap("encoder.L.mlp.in", f"{_BLOCK}.final_layer_norm"),
    Tap("encoder.L.mlp.pre", f"{_BLOCK}.fc1"),
    Tap("encoder.L.mlp.post", f"{_BLOCK}.fc2", "input"),
    Tap("encoder.L.mlp.out", f"{_BLOCK}.fc2"),
    Tap("encoder.L.resid_post", _BLOCK),
    Tap("encoder.ln_post", "model.encoder.layer_norm"),
)
"""`attn.scores` and `attn.pattern` are met inside the attention function (see attention.py)."""


def dims_of(config: Any) -> Dims:
    """Read the sizes of a Whisper model out of its configuration (a `WhisperConfig`)."""
    return Dims(
        n_layers=config.encoder_layers,
        d_model=config.d_model,
        n_heads=config.encoder_attention_heads,
        d_mlp=config.encoder_ffn_dim,
        n_mels=config.num_mel_bins,
        n_positions=config.max_source_positions,
        window_samples=config.max_source_positions * 320,
        n_decoder_layers=config.decoder_layers,
        n_decoder_heads=config.decoder_attention_heads,
        n_text_positions=config.max_target_positions,
        n_vocab=config.vocab_size,
    )


def tap(module: Any) -> Any:
    """Put the taps on a freshly built `WhisperForConditionalGeneration` (once; copies keep them) and return it."""
    dims = dims_of(module.config)
    install_taps(module, TAPS, dims.n_layers)
    for layer in range(dims.n_layers):
        name_attention(module.model.encoder.layers[layer].self_attn, f"encoder.{layer}.attn")
    module.set_attn_implementation(NAME)
    use_fast_linear(module.model.encoder)
    return module
