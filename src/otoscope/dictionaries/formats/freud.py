"""Checkpoints of FREUD (ksadov/FREUD) and of er537/whisper_interpretability, from which its L1 autoencoder comes.

`{"model", "optimizer", "scheduler", "step", "best_val_loss", "hparams"}`; er537's has no `hparams`. Sizes come from the
tensors: a published checkpoint is larger than its settings say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from otoscope.dictionaries.architectures.topk import TopKDictionary
from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.formats.found import Found, Given, need_k, site_of
from otoscope.dictionaries.thresholded import ReluDictionary

_TIED = {"encoder_bias", "decoder.weight"}
_TOP_K = {"encoder.weight", "encoder.bias", "W_dec", "b_dec"}


def is_freud(found: Found) -> bool:
    """Whether it is a checkpoint of FREUD."""
    return "autoencoder_variant" in _hparams(found) and set(found.shapes) in (_TIED, _TOP_K)


def is_er537(found: Found) -> bool:
    """Whether it is a checkpoint of er537: the tied weights, and no settings that say more."""
    return set(found.shapes) == _TIED and not is_freud(found)


def load_freud(found: Found, given: Given) -> Dictionary:
    """Return the dictionary of a checkpoint of FREUD."""
    hparams = _hparams(found)
    whisper = hparams.get("whisper_config") or {}
    site = site_of(given, whisper.get("layer_name") if isinstance(whisper, Mapping) else None)
    if set(found.shapes) == _TIED:
        dictionary = _tied(found, site)
    else:
        settings = hparams.get("autoencoder_config")
        said = settings.get("k", 32) if isinstance(settings, Mapping) else None
        dictionary = _top_k(found, site, need_k(given, said, found))
    dictionary.metadata |= {"model_name": whisper.get("model"), "hparams": dict(hparams)}
    return dictionary


def load_er537(found: Found, given: Given) -> Dictionary:
    """Return the dictionary of a checkpoint of er537."""
    return _tied(found, site_of(given))


def _tied(found: Found, site: str) -> Dictionary:
    """Encoder = decoder transposed, columns brought to length 1 as its own `encode` does; no bias but the encoder's."""
    weights = found.tensors()
    rows = torch.nn.functional.normalize(weights["decoder.weight"], dim=0).T
    return ReluDictionary(
        encoder=rows,
        encoder_bias=weights["encoder_bias"],
        decoder=rows,
        decoder_bias=rows.new_zeros(rows.shape[1]),
        centred=False,
        site=site,
        name=found.name,
    )


def _top_k(found: Found, site: str, k: int) -> Dictionary:
    """The decoder's rows keep the lengths they have: `normalize_decoder` acts at the start of training only."""
    weights = found.tensors()
    return TopKDictionary(
        encoder=weights["encoder.weight"],
        encoder_bias=weights["encoder.bias"],
        decoder=weights["W_dec"],
        decoder_bias=weights["b_dec"],
        k=k,
        site=site,
        name=found.name,
    )


def _hparams(found: Found) -> Mapping[str, Any]:
    held = found.held
    hparams = held.get("hparams") if isinstance(held, Mapping) else None
    return hparams if isinstance(hparams, Mapping) else {}
