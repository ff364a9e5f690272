"""Folders of EleutherAI's sparsify (eai-sparsify): `cfg.json` and `sae.safetensors`, one for each hook point."""

from __future__ import annotations

from typing import Any

from otoscope.dictionaries.architectures.topk import TopKDictionary
from otoscope.dictionaries.architectures.transcoder import TopKTranscoder
from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.formats.found import Found, Given, need_k, read_safetensors, site_of, unknown_kind

WEIGHTS = "sae.safetensors"


def is_sparsify(found: Found) -> bool:
    """Whether it is such a folder."""
    return (found.folder / WEIGHTS).is_file() and "k" in found.config


def load_sparsify(found: Found, given: Given) -> Dictionary:
    """Return its dictionary: TopK, or a TopK transcoder with or without a skip connection.

    `multi_topk` and `normalize_decoder` say how it was trained and change nothing here. The hook point is the name of
    the folder.
    """
    config = found.config
    if config.get("activation", "topk") != "topk":
        raise unknown_kind(found, "an activation", config["activation"], {"topk": None})
    weights = {key: tensor.float() for key, tensor in read_safetensors(found.folder / WEIGHTS).items()}
    encoder, bias = weights["encoder.weight"], weights["encoder.bias"]
    shared: dict[str, Any] = {
        "encoder": encoder,
        "decoder": weights["W_dec"],
        "decoder_bias": weights["b_dec"],
        "k": need_k(given, config.get("k"), found),
        "normalisation": given.normalisation or "none",
        "name": found.name,
        "site": site_of(given, found.folder.resolve().name),
    }
    transcode, skip = bool(config.get("transcode")), weights.get("W_skip")
    if not transcode and skip is None:
        return TopKDictionary(encoder_bias=bias, **shared)
    if transcode:
        shared |= _both_ends(str(shared["site"]))
    else:
        bias = bias - encoder @ weights["b_dec"]
    return TopKTranscoder(encoder_bias=bias, skip=skip, **shared)


def _both_ends(site: str) -> dict[str, str]:
    """A transcoder hangs at a module: it reads the module's input and rebuilds its output."""
    if site.endswith(".mlp.out"):
        return {"site": site.removesuffix("out") + "in", "target_site": site}
    return {"site": site}
