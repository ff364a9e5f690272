"""Weights of omarkhursheed/whisper-sae: version 1 (a ReLU autoencoder) and 2 (TopK, transcoders, crosscoders).

Version 2 is a bare table of weights, or one under "model_state_dict" beside a "config"; bare ones do not say k.
Its activations have passed the final LayerNorm of the stack, so that the last layer's are those of `encoder.ln_post`;
of other layers they are at no site of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from otoscope.dictionaries.architectures.crosscoder import CrosscoderDictionary
from otoscope.dictionaries.architectures.topk import TopKDictionary
from otoscope.dictionaries.architectures.transcoder import TopKTranscoder
from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.formats.found import Found, Given, need_k, site_of
from otoscope.dictionaries.thresholded import ReluDictionary

_LINEAR = {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}
_COUNTERS = {"feature_last_activated", "step_count"}
_CROSS = {"W_enc", "b_enc", "W_dec", "b_dec"}


def is_version_1(found: Found) -> bool:
    """Whether it is the ReLU autoencoder of version 1 (or of version 2, where it is the same)."""
    return set(found.shapes) == _LINEAR


def is_version_2(found: Found) -> bool:
    """Whether it is a TopK autoencoder, a transcoder or a crosscoder."""
    names = set(found.shapes) - _COUNTERS
    if names == _CROSS:
        return len(found.shapes["W_enc"]) == 3
    return names in (_LINEAR | {"b_pre"}, _LINEAR | {"skip.weight", "skip.bias"}) or (
        names == _LINEAR and set(found.shapes) >= _COUNTERS
    )


def load_version_1(found: Found, given: Given) -> Dictionary:
    """Return a ReLU dictionary; its input is the encoder's output, or the decoder's at the start token."""
    weights = found.tensors()
    return ReluDictionary(
        encoder=weights["encoder.weight"],
        encoder_bias=weights["encoder.bias"],
        decoder=weights["decoder.weight"].T,
        decoder_bias=weights["decoder.bias"],
        centred=False,
        site=site_of(given, "decoder.ln_post" if "decoder" in found.name else "encoder.ln_post"),
        name=found.name,
    )


def load_version_2(found: Found, given: Given) -> Dictionary:
    """Return what a file of version 2 holds."""
    if "W_enc" in found.shapes:
        return _crosscoder(found, given)
    weights = found.tensors()
    config = _config(found)
    if "b_pre" in weights:
        return TopKDictionary(
            encoder=weights["encoder.weight"],
            encoder_bias=weights["encoder.bias"] - weights["encoder.weight"] @ weights["b_pre"],
            decoder=weights["decoder.weight"].T,
            decoder_bias=weights["decoder.bias"] + weights["b_pre"],
            centred=False,
            k=need_k(given, config.get("k"), found),
            site=_site(found, given, config),
            name=found.name,
        )
    bias = weights["decoder.bias"]
    return TopKTranscoder(
        encoder=weights["encoder.weight"],
        encoder_bias=weights["encoder.bias"],
        decoder=weights["decoder.weight"].T,
        decoder_bias=bias + weights["skip.bias"] if "skip.bias" in weights else bias,
        skip=weights.get("skip.weight"),
        k=need_k(given, config.get("k"), found),
        site=site_of(given),
        name=found.name,
    )


def _crosscoder(found: Found, given: Given) -> Dictionary:
    """Layers side by side; a ReLU crosscoder is one of which all features may be active (k = their number)."""
    weights = found.tensors()
    layers, width, n = weights["W_enc"].shape
    found.notes.append("its layers are taken to be the encoder's first ones, after the final LayerNorm")
    return CrosscoderDictionary(
        encoder=weights["W_enc"].reshape(layers * width, n).T,
        encoder_bias=weights["b_enc"],
        decoder=weights["W_dec"].reshape(n, layers * width),
        decoder_bias=weights["b_dec"].flatten(),
        centred=False,
        k=need_k(given, _config(found).get("k"), found),
        widths=[width] * layers,
        site_scales=torch.ones(layers),
        site=site_of(given, "encoder.0.resid_post"),
        sites=[f"encoder.{layer}.resid_post" for layer in range(layers)],
        name=found.name,
    )


def _site(found: Found, given: Given, config: Mapping[str, Any]) -> str:
    """The site: the final LayerNorm's output if the layer is the last one."""
    layer = config.get("layer_idx")
    stack = "decoder" if config.get("component") == "decoder" else "encoder"
    depth = _DEPTHS.get(str(config.get("model_name", "")).removeprefix("openai/whisper-").removesuffix(".en"))
    if given.site is None and isinstance(layer, int) and depth is not None and layer == depth - 1:
        return f"{stack}.ln_post"
    if given.site is None:
        found.notes.append(
            f"its input is layer {layer} of the {stack} after the final LayerNorm, which is no site of the model"
        )
    return site_of(given)


_DEPTHS = {"tiny": 4, "base": 6, "small": 12, "medium": 24}
"""Layers of both stacks of the released models (the large ones differ between the stacks and are left out)."""


def _config(found: Found) -> Mapping[str, Any]:
    """The settings beside the weights; version 2's trainer keeps those of the autoencoder under "sae"."""
    held = found.held
    config = held.get("config") if isinstance(held, Mapping) else None
    config = config if isinstance(config, Mapping) else {}
    inner = config.get("sae")
    return {**config, **(inner if isinstance(inner, Mapping) else {})}
