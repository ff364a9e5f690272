"""The state of a run on disk, so that a killed run goes on where it was.

Two safetensors files: the last checkpoint and the one before it. A new one is written beside them and then takes the
place of the last, which becomes the one before, so that at every moment a whole one is there under one of the names.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from otoscope.errors import OtoscopeError
from otoscope.storage import atomic_path

FORMAT = "otoscope-training"
VERSION = "2"
LAST, BEFORE = "checkpoint.safetensors", "checkpoint-before.safetensors"


def save_checkpoint(folder: Path, step: int, settings: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors of a run after `step` steps, with the settings that made them and their SHA-256."""
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "step": str(step),
        "settings": _canonical(settings),
        "sha256": _digest(step, held),
    }
    with atomic_path(folder / LAST) as temporary:
        save_file(held, temporary, metadata=header)
        if (folder / LAST).exists():
            os.replace(folder / LAST, folder / BEFORE)


def load_checkpoint(folder: Path, settings: dict[str, Any]) -> tuple[int, dict[str, Tensor]] | None:
    """Return the steps done and the tensors, or None if there is no run of exactly these settings to go on with.

    A damaged last checkpoint is named in a warning, and the one before it is used.

    Raises:
        OtoscopeError: the only checkpoints there are damaged.
    """
    damage = []
    for name in (LAST, BEFORE):
        path = folder / name
        if not path.is_file():
            continue
        try:
            found = _read(path, settings)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            damage.append(f"{path} is damaged ({error})")
            continue
        if damage:
            warnings.warn(f"{damage[0]}; training goes on from the checkpoint before it.", stacklevel=2)
        return found
    if damage:
        raise OtoscopeError(f"{'; '.join(damage)}; delete {folder} to start this training afresh.")
    return None


def _read(path: Path, settings: dict[str, Any]) -> tuple[int, dict[str, Tensor]] | None:
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
            return None
        if header.get("settings") != _canonical(settings):
            return None
        step, tensors = int(header["step"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _digest(step, tensors) != header["sha256"]:
        raise ValueError("its content does not match its SHA-256")
    return step, tensors


def _digest(step: int, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(str(step).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _canonical(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
