"""Folders of dictionary_learning: `ae.pt`, a table of weights, and `config.json`; also those of AudioSAE.

AudioSAE (arXiv 2602.05027): BatchTopK dictionaries of the layers of Whisper and HuBERT. Layers count from 1 there, and
every frame is brought to length 1 before it is encoded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from otoscope.dictionaries.architectures.topk import TopKDictionary
from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.formats.found import Found, Given, need_k, site_of, unknown_kind
from otoscope.dictionaries.formats.model_card import model_name
from otoscope.dictionaries.registry import dictionary_class
from otoscope.dictionaries.thresholded import ReluDictionary, ThresholdDictionary
from otoscope.errors import InputError
from otoscope.storage import atomic_folder

_SPEECH = ("whisper", "hubert", "wav2vec", "wavlm")


def is_dictionary_learning(found: Found) -> bool:
    """Whether it is such a folder, or an `ae.pt` without its `config.json`."""
    return (_class(found) in _LOADERS or (found.file is not None and found.file.name == "ae.pt")) and bool(found.shapes)


def is_audiosae(found: Found) -> bool:
    """Whether it is one of AudioSAE's: BatchTopK, of a speech model or in a folder that says so."""
    if not is_dictionary_learning(found) or not found.has("encoder.weight", "decoder.weight", "b_dec"):
        return False
    texts = [str(found.path.resolve()), *(str(value) for value in _trainer(found).values())]
    of_speech = any(name in text.lower() for text in texts for name in _SPEECH)
    return "audio-sae" in texts[0].lower() or (of_speech and _class(found) in ("BatchTopKSAE", None))


def load_dictionary_learning(found: Found, given: Given) -> Dictionary:
    """Return the dictionary of such a folder."""
    trainer = _trainer(found)
    layer = trainer.get("layer")
    site = site_of(given, trainer.get("submodule_name"), None if layer is None else f"encoder.{layer}.resid_post")
    return _load(found, given, site)


def load_audiosae(found: Found, given: Given) -> Dictionary:
    """Return one of AudioSAE's dictionaries."""
    number = found.folder.resolve().name.removeprefix("layer_")
    layer = int(number) if number.isdecimal() else _trainer(found).get("layer")
    if not isinstance(layer, int) or layer < 1:
        raise InputError(f"{found.folder} should be called layer_N, N counting from 1; give the site instead (--site).")
    given = Given(given.site, given.k, given.threshold, given.normalisation or "unit_norm")
    return _load(found, given, site_of(given, f"encoder.{layer - 1}.resid_post"))


def save_dictionary_learning(dictionary: Dictionary, folder: str | os.PathLike[str]) -> None:
    """Write `ae.pt` and `config.json` as dictionary_learning does, atomically.

    Raises:
        InputError: the dictionary is of a kind that dictionary_learning does not have, or normalises frames.
    """
    if getattr(dictionary, "normalisation", "none") != "none":
        raise InputError(
            f"Dictionary {dictionary.name!r} normalises every frame, which dictionary_learning has no place for."
        )
    if dictionary.kind not in _WRITERS:
        raise InputError(
            f"dictionary_learning has no architecture for {dictionary.name!r} ({dictionary.kind}); "
            f"it has {', '.join(sorted(_WRITERS))}."
        )
    name, tensors = _WRITERS[dictionary.kind](dictionary)
    trainer = {
        "trainer_class": "Otoscope",
        "dict_class": name,
        "activation_dim": dictionary.d_in,
        "dict_size": dictionary.n_features,
        "layer": next((int(part) for part in dictionary.site.split(".") if part.isdecimal()), 0),
        "lm_name": model_name(dictionary),
        "submodule_name": dictionary.site,
        **({"k": int(tensors["k"])} if "k" in tensors else {}),
    }
    with atomic_folder(folder) as temporary:
        torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, temporary / "ae.pt")
        (temporary / "config.json").write_text(json.dumps({"trainer": trainer}, indent=1) + "\n", encoding="utf-8")


def _load(found: Found, given: Given, site: str) -> Dictionary:
    kind = _class(found) or _guess(found)
    loader = _LOADERS.get(kind)
    if loader is None:
        raise unknown_kind(found, "a dictionary of class", kind, _LOADERS)
    weights = found.tensors()
    names = {"site": site, "name": found.name, "normalisation": given.normalisation or "none"}
    dictionary = loader(found, given, weights, names)
    trainer = _trainer(found)
    dictionary.metadata |= {"model_name": trainer.get("lm_name"), "trainer": dict(trainer)}
    return dictionary


def _linear(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Weights of two `nn.Linear`, features by rows."""
    return {"encoder": weights["encoder.weight"], "decoder": weights["decoder.weight"].T}


def _relu(found: Found, given: Given, weights: Mapping[str, Tensor], names: dict[str, Any]) -> Dictionary:
    return ReluDictionary(
        **_linear(weights), encoder_bias=weights["encoder.bias"], decoder_bias=weights["bias"], **names
    )


def _new_relu(found: Found, given: Given, weights: Mapping[str, Tensor], names: dict[str, Any]) -> Dictionary:
    biases: dict[str, Any] = {"encoder_bias": weights["encoder.bias"], "decoder_bias": weights["decoder.bias"]}
    return ReluDictionary(**_linear(weights), **biases, centred=False, **names)


def _gated(found: Found, given: Given, weights: Mapping[str, Tensor], names: dict[str, Any]) -> Dictionary:
    theirs = {"W_dec": weights["decoder.weight"].T, "W_enc": weights["encoder.weight"].T, "r_mag": weights["r_mag"]}
    biases = {"b_gate": weights["gate_bias"], "b_mag": weights["mag_bias"], "b_dec": weights["decoder_bias"]}
    config = {"otoscope_normalisation": names["normalisation"]}
    cls = dictionary_class("gated", str(found.path))
    return cls.from_saved(config, {**theirs, **biases}, name=names["name"], site=names["site"])


def _jump_relu(found: Found, given: Given, weights: Mapping[str, Tensor], names: dict[str, Any]) -> Dictionary:
    return ThresholdDictionary(
        encoder=weights["W_enc"].T,
        encoder_bias=weights["b_enc"],
        decoder=weights["W_dec"],
        decoder_bias=weights["b_dec"],
        threshold=weights["threshold"],
        centred=bool(found.config.get("apply_b_dec_to_input", False)),
        **names,
    )


def _top_k(found: Found, given: Given, weights: Mapping[str, Tensor], names: dict[str, Any]) -> Dictionary:
    biases: dict[str, Any] = {"encoder_bias": weights["encoder.bias"], "decoder_bias": weights["b_dec"]}
    return TopKDictionary(**_linear(weights), **biases, k=need_k(given, _said_k(found, weights), found), **names)


def _batch_top_k(found: Found, given: Given, weights: Mapping[str, Tensor], names: dict[str, Any]) -> Dictionary:
    if "W_enc" in weights:  # Matryoshka; how its features are grouped matters to its training alone
        parts: dict[str, Any] = {
            "encoder": weights["W_enc"].T,
            "decoder": weights["W_dec"],
            "encoder_bias": weights["b_enc"],
        }
    else:
        parts = {**_linear(weights), "encoder_bias": weights["encoder.bias"]}
    parts["decoder_bias"] = weights["b_dec"]
    threshold = weights.get("threshold") if given.threshold is None else torch.tensor(given.threshold)
    if threshold is None:
        found.notes.append("the file has no threshold, so that the k strongest features of each frame are taken")
        return TopKDictionary(**parts, k=need_k(given, _said_k(found, weights), found), **names)
    if "group_sizes" in weights:
        names = {**names, "metadata": {"group_sizes": weights["group_sizes"].tolist()}}
    return ThresholdDictionary(**parts, threshold=float(threshold), **names)


def _said_k(found: Found, weights: Mapping[str, Tensor]) -> object:
    """The number of active features: of the weights, else of the configuration."""
    return int(weights["k"]) if "k" in weights else _trainer(found).get("k", found.config.get("k"))


_LOADERS = {
    "AutoEncoder": _relu,
    "AutoEncoderNew": _new_relu,
    "GatedAutoEncoder": _gated,
    "JumpReluAutoEncoder": _jump_relu,
    "AutoEncoderTopK": _top_k,
    "BatchTopKSAE": _batch_top_k,
    "MatryoshkaBatchTopKSAE": _batch_top_k,
}


def _trainer(found: Found) -> Mapping[str, Any]:
    """The settings of the trainer; AudioSAE's may lie at the top."""
    trainer = found.config.get("trainer")
    return trainer if isinstance(trainer, Mapping) else found.config


def _class(found: Found) -> str | None:
    kind = _trainer(found).get("dict_class")
    return None if kind is None else str(kind)


def _guess(found: Found) -> str:
    """The class of an `ae.pt` without configuration, as far as its weights tell."""
    if found.has("gate_bias"):
        return "GatedAutoEncoder"
    if found.has("group_sizes"):
        return "MatryoshkaBatchTopKSAE"
    if found.has("W_enc"):
        return "JumpReluAutoEncoder"
    if found.has("threshold") and float(found.table["threshold"].read()) < 0:
        return "AutoEncoderTopK"  # a BatchTopK dictionary that has been trained has a threshold
    if found.has("b_dec"):
        found.notes.append("without a config.json, it is taken for a BatchTopK dictionary")
        return "BatchTopKSAE"
    return "AutoEncoder" if found.has("bias") else "AutoEncoderNew"


def _shift(dictionary: Any, centred: bool) -> Tensor:
    """What is added to the encoder's bias when the decoder's bias is (or is no longer) subtracted from the input."""
    if dictionary.centred == centred:
        return torch.zeros_like(dictionary.encoder_bias)
    shift: Tensor = dictionary.encoder @ dictionary.decoder_bias
    return shift if centred else -shift


def _save_relu(dictionary: Any) -> tuple[str, dict[str, Tensor]]:
    return "AutoEncoder", {
        "bias": dictionary.decoder_bias,
        "encoder.weight": dictionary.encoder,
        "encoder.bias": dictionary.encoder_bias + _shift(dictionary, centred=True),
        "decoder.weight": dictionary.decoder.T,
    }


def _save_top_k(dictionary: Any) -> tuple[str, dict[str, Tensor]]:
    return "AutoEncoderTopK", {
        "b_dec": dictionary.decoder_bias,
        "k": torch.tensor(dictionary.k, dtype=torch.int),
        "threshold": torch.tensor(-1.0),
        "encoder.weight": dictionary.encoder,
        "encoder.bias": dictionary.encoder_bias + _shift(dictionary, centred=True),
        "decoder.weight": dictionary.decoder.T,
    }


def _save_jump_relu(dictionary: Any) -> tuple[str, dict[str, Tensor]]:
    return "JumpReluAutoEncoder", {
        "W_enc": dictionary.encoder.T,
        "b_enc": dictionary.encoder_bias + _shift(dictionary, centred=False),
        "W_dec": dictionary.decoder,
        "b_dec": dictionary.decoder_bias,
        "threshold": dictionary.threshold,
    }


def _save_gated(dictionary: Any) -> tuple[str, dict[str, Tensor]]:
    ours = dictionary.tensors()
    shift = ours["b_dec"] @ ours["W_enc"] * (not dictionary.centred)
    return "GatedAutoEncoder", {
        "encoder.weight": ours["W_enc"].T,
        "decoder.weight": ours["W_dec"].T,
        "gate_bias": ours["b_gate"] + shift,
        "mag_bias": ours["b_mag"] + shift * ours["r_mag"].exp(),
        "r_mag": ours["r_mag"],
        "decoder_bias": ours["b_dec"],
    }


_WRITERS = {"standard": _save_relu, "topk": _save_top_k, "jumprelu": _save_jump_relu, "gated": _save_gated}
