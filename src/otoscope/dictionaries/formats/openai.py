"""Files of OpenAI's sparse_autoencoder: `pre_bias`, `latent_bias`, `encoder.weight`, `decoder.weight`, `activation`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otoscope.dictionaries.architectures.topk import TopKDictionary
from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.formats.found import Found, Given, need_k, site_of, unknown_kind
from otoscope.dictionaries.thresholded import ReluDictionary

_KNOWN: dict[str, Any] = {"ReLU": ReluDictionary, "TopK": TopKDictionary}


def is_openai(found: Found) -> bool:
    """Whether it is such a file."""
    return found.has("pre_bias", "latent_bias", "encoder.weight")


def load_openai(found: Found, given: Given) -> Dictionary:
    """Return its dictionary; a TopK one normalises every frame, as its own loader decides by the activation."""
    activation = str(found.table.get("activation", "ReLU"))
    if activation not in _KNOWN:
        raise unknown_kind(found, "an activation", activation, _KNOWN)
    weights = found.tensors()
    decoder = weights["decoder.weight"].T if "decoder.weight" in weights else weights["encoder.weight"]
    state = found.table.get("activation_state_dict")
    said = state.get("k") if isinstance(state, Mapping) else None
    top_k = activation == "TopK"
    dictionary: Dictionary = _KNOWN[activation](
        encoder=weights["encoder.weight"],
        encoder_bias=weights["latent_bias"],
        decoder=decoder,
        decoder_bias=weights["pre_bias"],
        normalisation=given.normalisation or ("layer_norm" if top_k else "none"),
        site=site_of(given),
        name=found.name,
        **({"k": need_k(given, said, found)} if top_k else {}),
    )
    return dictionary
