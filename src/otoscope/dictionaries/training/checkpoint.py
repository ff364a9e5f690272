"""The state of a run on disk: one safetensors file, replaced atomically, so that a killed run goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from otoscope.errors import OtoscopeError
from otoscope.storage import atomic_path

FORMAT = "otoscope-training"
VERSION = "1"


def save_checkpoint(path: Path, step: int, settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write the tensors of a run after `step` steps, with the settings that made them."""
    header = {"format": FORMAT, "version": VERSION, "step": str(step), "settings": _canonical(settings)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata=header)


def load_checkpoint(path: Path, settings: dict[str, Any]) -> tuple[int, dict[str, Tensor]] | None:
    """Return the steps done and the tensors, or None if there is no run of exactly these settings to go on with.

    Raises:
        OtoscopeError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
                return None
            if header.get("settings") != _canonical(settings):
                return None
            return int(header["step"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise OtoscopeError(f"{path} is damaged ({error}); delete it to start this training afresh.") from error


def _canonical(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
