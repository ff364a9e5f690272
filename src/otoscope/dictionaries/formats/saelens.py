"""The SAELens v6 folder: `cfg.json` and `sae_weights.safetensors`, our own keys under `metadata`.

It is the native format: SAELens opens our dictionaries of every architecture that it has, and we open its own. Shapes
come from the tensors, never from the config.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from otoscope.dictionaries.formats.found import Found, Given, read_config, read_safetensors, site_of
from otoscope.dictionaries.registry import dictionary_class
from otoscope.errors import InputError, OtoscopeError
from otoscope.storage import atomic_folder

if TYPE_CHECKING:
    from otoscope.dictionaries.dictionary import Dictionary

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
SPARSITY = "sparsity.safetensors"
SAELENS_VERSION = "6.54.12"
"""The release whose layout is written; without it SAELens takes a folder for a pre-6 one."""
NORMALISATIONS = {
    "none": "none",
    "constant_norm": "constant_norm_rescale",
    "layer_norm": "layer_norm",
    "unit_norm": "unit_norm",
}
"""Our names and SAELens' (`normalize_activations`); it refuses a folder with unit norm, which `export` folds."""
ARCHITECTURES = (
    "standard",
    "topk",
    "jumprelu",
    "gated",
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
)
"""What SAELens and we both have."""


def save_dictionary(
    dictionary: Dictionary, folder: str | os.PathLike[str], texts: Mapping[str, str] | None = None
) -> None:
    """Write `dictionary` to `folder`, atomically, with further `texts` by file name."""
    _write(dictionary, dictionary.config(), dictionary.tensors(), folder, texts or {}, {})


def export(dictionary: Dictionary, folder: str | os.PathLike[str], density: Tensor | None = None) -> None:
    """Write a folder that SAELens opens, whatever is done to the frames first; atomically.

    Args:
        dictionary: of an architecture that SAELens has.
        folder: where to.
        density: `[n]`, the share of frames in which each feature is active, for `sparsity.safetensors`.

    Raises:
        InputError: SAELens has no such architecture, or the densities are not one for each feature.
    """
    if dictionary.kind not in ARCHITECTURES:
        raise InputError(
            f"SAELens has no architecture for {dictionary.name!r} ({dictionary.kind}); it has "
            f"{', '.join(ARCHITECTURES)}."
        )
    config, tensors = dictionary.config(), dict(dictionary.tensors())
    if getattr(dictionary, "normalisation", "none") == "unit_norm":
        config, tensors = _with_constant_norm(config, tensors, dictionary.d_in)
    more = {}
    if density is not None:
        if density.shape != (dictionary.n_features,):
            raise InputError(
                f"There are {dictionary.n_features} features, but densities of shape {list(density.shape)}."
            )
        more = {SPARSITY: {"sparsity": torch.log10(density.float() + 1e-10)}}
    _write(dictionary, config, tensors, folder, {}, more)


def _with_constant_norm(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], d: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Rewrite what takes frames of length 1 so that it takes frames of length sqrt(d); values stay as they are."""
    root = math.sqrt(d)
    scaled = {**tensors, "W_enc": tensors["W_enc"] / root}
    if "d_out" not in config:
        scaled |= {name: tensors[name] * root for name in ("W_dec", "b_dec")}
    changed = {**config, "otoscope_normalisation": "constant_norm"}
    if "rescale_acts_by_decoder_norm" in changed:
        changed["rescale_acts_by_decoder_norm"] = False
    return changed, scaled


def _write(
    dictionary: Dictionary,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    folder: str | os.PathLike[str],
    texts: Mapping[str, str],
    more: Mapping[str, Mapping[str, Tensor]],
) -> None:
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
    written = {
        "architecture": dictionary.kind,
        **config,
        "dtype": "float32",
        "device": "cpu",
        "normalize_activations": NORMALISATIONS[config.get("otoscope_normalisation", "none")],
        "reshape_activations": "none",
        "metadata": metadata,
    }
    with atomic_folder(folder) as temporary:
        for name, table in {WEIGHTS: tensors, **more}.items():
            save_file({key: tensor.detach().cpu().contiguous() for key, tensor in table.items()}, temporary / name)
        (temporary / CONFIG).write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8")


def load_dictionary(folder: str | os.PathLike[str]) -> Dictionary:
    """Open a dictionary saved by Otoscope or by SAELens.

    Raises:
        InputError: there is no such folder.
        OtoscopeError: it is damaged, or of an architecture or a normalisation that cannot be read here.
    """
    path = Path(folder)
    if not (path / CONFIG).is_file():
        raise InputError(f"There is no dictionary at {path}: {path / CONFIG} does not exist.")
    return load_folder(Found(path, path, read_config(path / CONFIG), None), Given())


def is_saelens(found: Found) -> bool:
    """Whether it is such a folder, complete or not."""
    return (found.folder / WEIGHTS).is_file() or "architecture" in found.config or "d_sae" in found.config


def load_folder(found: Found, given: Given) -> Dictionary:
    """Return the dictionary of such a folder."""
    folder = found.folder
    config = _before_6(found.config)
    cls = dictionary_class(config.get("architecture"), str(folder))
    config["otoscope_normalisation"] = given.normalisation or _normalisation(config, folder)
    tensors = read_safetensors(folder / WEIGHTS)
    if config.get("normalize_activations") == "expected_average_only_in":
        tensors = _with_factor(tensors, _factor(config, folder))
    metadata = config.get("metadata") or {}
    site = str(metadata.get("site") or "") if given.site is None else ""
    site = site or site_of(given, metadata.get("hook_name"))
    try:
        dictionary = cls.from_saved(config, tensors, name=folder.resolve().name, site=site)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, OtoscopeError):
            raise
        raise OtoscopeError(f"{folder} is not a complete {cls.kind} dictionary ({error}).") from error
    dictionary.metadata = dict(metadata)
    if given.site is None:
        dictionary.sites = tuple(metadata.get("sites") or (site,))
        dictionary.target_site = str(metadata.get("target_site") or metadata.get("hook_name_out") or site)
    return dictionary


def _before_6(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration in the words of version 6; before, everything lay at the top and ReLU was usual."""
    if config.get("metadata") or "architecture" in config:
        return dict(config)
    changed = dict(config)
    top_k = config.get("activation_fn", config.get("activation_fn_str")) == "topk"
    changed["architecture"] = "topk" if top_k else "standard"
    if top_k:
        changed["k"] = (config.get("activation_fn_kwargs") or {}).get("k")
    hook = config.get("hook_name", config.get("hook_point", ""))
    changed["metadata"] = {"model_name": config.get("model_name"), "hook_name": hook}
    return changed


def _normalisation(config: Mapping[str, Any], folder: Path) -> str:
    """What is done to every frame, in our words.

    Raises:
        OtoscopeError: something that is not known here.
    """
    if config.get("reshape_activations", "none") not in ("none", "hook_z"):  # heads side by side are as hook_z has them
        raise OtoscopeError(
            f"{folder} wants reshape_activations = {config['reshape_activations']!r}, which is not known."
        )
    if config.get("finetuning_scaling_factor"):
        raise OtoscopeError(f"{folder} has a finetuning_scaling_factor, which SAELens 6 no longer has; fold it first.")
    theirs = config.get("normalize_activations") or "none"
    if theirs != "none" and "transcoder" in str(config.get("architecture")):
        raise OtoscopeError(
            f"{folder} is a transcoder with normalize_activations = {theirs!r}, which is not supported."
        )
    if theirs == "expected_average_only_in":
        return "none"
    ours = {value: key for key, value in NORMALISATIONS.items()}
    if theirs not in ours:
        raise OtoscopeError(
            f"{folder} wants normalize_activations = {theirs!r}, which is not supported; fold it first."
        )
    return ours[theirs]


def _factor(config: Mapping[str, Any], folder: Path) -> float:
    """The factor by which activations were multiplied in training; checkpoints keep it in a file of its own.

    Raises:
        OtoscopeError: it is nowhere.
    """
    factor = config.get("norm_scaling_factor")
    beside = folder / "activation_scaler.json"
    if factor is None and beside.is_file():
        factor = read_config(beside).get("scaling_factor")
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < math.inf:
        raise OtoscopeError(
            f"{folder} was trained on activations scaled to an average length, and the factor is lost "
            "(neither norm_scaling_factor nor activation_scaler.json); save it from SAELens again, which folds it."
        )
    return float(factor)


def _with_factor(tensors: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Fold the factor as SAELens does: thresholds and biases of the encoder stay."""
    return {
        **tensors,
        "W_enc": tensors["W_enc"] * factor,
        **{name: tensors[name] / factor for name in ("W_dec", "b_dec")},
    }
