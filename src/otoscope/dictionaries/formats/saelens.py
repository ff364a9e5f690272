"""The SAELens v6 folder: `cfg.json` and `sae_weights.safetensors`, our own keys under `metadata`.

SAELens opens our TopK dictionaries and we open its own. Shapes come from the tensors, never from the config.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from otoscope.dictionaries.registry import dictionary_class
from otoscope.errors import InputError, OtoscopeError
from otoscope.storage import atomic_folder

if TYPE_CHECKING:
    from otoscope.dictionaries.dictionary import Dictionary

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
SAELENS_VERSION = "6.54.12"
"""The release whose layout is written; without it SAELens takes a folder for a pre-6 one."""


def save_dictionary(
    dictionary: Dictionary, folder: str | os.PathLike[str], texts: Mapping[str, str] | None = None
) -> None:
    """Write `dictionary` to `folder`, atomically, with further `texts` by file name."""
    from otoscope import __version__

    metadata = {
        **dictionary.metadata,
        "sae_lens_version": SAELENS_VERSION,
        "sae_lens_training_version": None,
        "otoscope_version": __version__,
        "hook_name": dictionary.site,
        "site": dictionary.site,
        "sites": list(dictionary.sites),
        "target_site": dictionary.target_site,
    }
    config = {
        "architecture": dictionary.kind,
        **dictionary.config(),
        "dtype": "float32",
        "device": "cpu",
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in dictionary.tensors().items()}
    with atomic_folder(folder) as temporary:
        save_file(tensors, temporary / WEIGHTS)
        (temporary / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        for name, text in (texts or {}).items():
            (temporary / name).write_text(text, encoding="utf-8")


def load_dictionary(folder: str | os.PathLike[str]) -> Dictionary:
    """Open a dictionary saved by Otoscope or by SAELens 6.

    Raises:
        InputError: there is no such folder.
        OtoscopeError: it is damaged, or of an architecture or a normalisation that cannot be read here.
    """
    folder = Path(folder)
    config = _read_config(folder)
    cls = dictionary_class(config.get("architecture"), str(folder))
    try:
        tensors = load_file(folder / WEIGHTS)
    except FileNotFoundError:
        raise OtoscopeError(f"{folder} has no {WEIGHTS}: the dictionary is incomplete.") from None
    except (OSError, SafetensorError) as error:
        raise OtoscopeError(f"{folder / WEIGHTS} is damaged and cannot be read ({error}).") from error
    metadata = config.get("metadata") or {}
    site = str(metadata.get("site") or metadata.get("hook_name") or "")
    try:
        dictionary = cls.from_saved(config, tensors, name=folder.resolve().name, site=site)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, OtoscopeError):
            raise
        raise OtoscopeError(f"{folder} is not a complete {cls.kind} dictionary ({error}).") from error
    dictionary.metadata = dict(metadata)
    dictionary.sites = tuple(metadata.get("sites") or (site,))
    dictionary.target_site = str(metadata.get("target_site") or site)
    return dictionary


def _read_config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"There is no dictionary at {folder}: {path} does not exist.") from None
    except (OSError, ValueError) as error:
        raise OtoscopeError(f"{path} is damaged and cannot be read ({error}).") from error
    if not isinstance(config, dict):
        raise OtoscopeError(f"{path} is damaged: expected an object.")
    for key in ("normalize_activations", "reshape_activations"):
        if config.get(key, "none") != "none":
            raise OtoscopeError(f"{folder} wants {key} = {config[key]!r}, which is not supported; fold it first.")
    return config
