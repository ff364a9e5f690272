"""The `.pt` files of openai-whisper: sizes and weights, read without running anything that is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.families.adapter import Config
from otoscope.models.loading.weights import OPENAI_KEYS, load_without_code

_SIZES = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}
"""Names of the sizes in openai-whisper and in a Hugging Face configuration."""


def read_openai(path: Path) -> tuple[Config, Mapping[str, Tensor]]:
    """Return a configuration in Hugging Face's words and the weights by openai-whisper's names.

    Raises:
        InputError: the file holds something else.
        OtoscopeError: it is damaged.
    """
    held = load_without_code(path)
    if not isinstance(held, Mapping) or not all(isinstance(held.get(key), Mapping) for key in OPENAI_KEYS):
        raise InputError(
            f"{path} is no openai-whisper checkpoint: it should hold {' and '.join(OPENAI_KEYS)}, but {_holds(held)}."
        )
    state = held["model_state_dict"]
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise InputError(f"{path} is no openai-whisper checkpoint: its weight {strange[0]!r} is not a tensor.")
    return _config(held["dims"], path), state


def _config(sizes: Mapping[str, Any], path: Path) -> Config:
    for name in (*_SIZES, "n_text_state"):
        value = sizes.get(name)
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{path} is no openai-whisper checkpoint: its dims say {name} = {value!r}.")
    if sizes["n_text_state"] != sizes["n_audio_state"]:
        raise InputError(
            f"{path} has an encoder of width {sizes['n_audio_state']} and a decoder of width {sizes['n_text_state']}; "
            "only equal widths are supported."
        )
    config: dict[str, Any] = {"model_type": "whisper"}
    config.update({theirs: sizes[ours] for ours, theirs in _SIZES.items()})
    return config


def _holds(held: object) -> str:
    """Say what a file holds instead, and what might be done with it."""
    if not isinstance(held, Mapping):
        return f"it holds a {type(held).__name__}"
    names = [str(name) for name in held]
    listed = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    if "hparams" in names or any(name.startswith(("W_enc", "encoder.weight", "W_dec")) for name in names):
        return f"it holds {listed}, as files of sparse autoencoders do"
    if names and all(isinstance(value, Tensor) for value in held.values()):
        return f"it holds weights alone ({listed}); save {{'dims': …, 'model_state_dict': …}} as openai-whisper does"
    return f"it holds {listed or 'nothing'}"
