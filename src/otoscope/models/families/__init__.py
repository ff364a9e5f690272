"""The families of models that can be loaded: one adapter file each."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from otoscope.errors import InputError, nearest

if TYPE_CHECKING:
    from otoscope.models.families.adapter import Family

FAMILIES = ("whisper", "wav2vec2", "hubert", "wavlm", "unispeech-sat", "data2vec-audio")
"""The adapter files of this folder (with `_` for `-`); each defines `FAMILY`."""

_REGISTERED: dict[str, Family] = {}


def register_family(family: Family) -> None:
    """Let `load_model` read a further kind of model in this process (see `docs/families.md`).

    Raises:
        InputError: otoscope has an adapter of that name already.
    """
    if family.name in FAMILIES:
        raise InputError(f"otoscope has an adapter for {family.name!r} models already; give yours another name.")
    _REGISTERED[family.name] = family


def find_family(model_type: str) -> Family:
    """Return the adapter for the `model_type` of a checkpoint's configuration.

    Raises:
        InputError: no adapter reads such models.
    """
    if model_type in _REGISTERED:
        return _REGISTERED[model_type]
    if model_type not in FAMILIES:
        known = (*FAMILIES, *_REGISTERED)
        raise InputError(
            f"There is no adapter for {model_type!r} models{nearest(model_type, known) or '.'} "
            f"Supported: {', '.join(known)}."
        )
    family: Family = importlib.import_module(f"otoscope.models.families.{model_type.replace('-', '_')}").FAMILY
    return family
