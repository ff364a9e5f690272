"""The families of models that can be loaded: one adapter file each."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from otoscope.errors import InputError, nearest

if TYPE_CHECKING:
    from otoscope.models.families.adapter import Family

FAMILIES = ("whisper",)
"""The adapter files of this folder; each defines `FAMILY`."""


def find_family(model_type: str) -> Family:
    """Return the adapter for the `model_type` of a checkpoint's configuration.

    Raises:
        InputError: no adapter reads such models.
    """
    if model_type not in FAMILIES:
        raise InputError(
            f"There is no adapter for {model_type!r} models{nearest(model_type, FAMILIES) or '.'} "
            f"Supported: {', '.join(FAMILIES)}."
        )
    family: Family = importlib.import_module(f"otoscope.models.families.{model_type.replace('-', '_')}").FAMILY
    return family
