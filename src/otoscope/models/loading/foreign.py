"""Checkpoints that other programs made for themselves: recognised, so that the refusal says what to give instead."""

from __future__ import annotations

import re
from pathlib import Path

from otoscope.models.loading.released import hub_name, released_names

_BEGINNINGS = {
    b"lmgg": "a GGML file (whisper.cpp)",
    b"GGUF": "a GGUF file (whisper.cpp)",
    b"\x89HDF": "a Keras file (TensorFlow)",
}
_SUFFIXES = {
    ".onnx": "an ONNX program",
    ".tflite": "a TensorFlow Lite program",
    ".nemo": "a NeMo archive",
    ".npz": "an MLX file",
    ".msgpack": "a Flax file",
    ".h5": "a Keras file (TensorFlow)",
}
_MEMBERS = {
    "vocabulary.json": "a CTranslate2 model (faster-whisper)",
    "vocabulary.txt": "a CTranslate2 model (faster-whisper)",
    "weights.npz": "an MLX model",
    "flax_model.msgpack": "a Flax model",
    "tf_model.h5": "a TensorFlow model",
    "encoder_model.onnx": "an ONNX model",
}


def foreign_file(path: Path) -> str | None:
    """Return what to say of a file of another program; None for all other files."""
    with open(path, "rb") as file:
        what = _BEGINNINGS.get(file.read(4)) or _SUFFIXES.get(path.suffix.lower())
    return None if what is None else _instead(path, what)


def foreign_folder(path: Path) -> str | None:
    """The same for a folder without weights that can be read here."""
    if (path / "adapter_config.json").is_file():
        return (
            f"{path} is an adapter (PEFT), which holds changes to a model and not the model; "
            "merge it into its base (merge_and_unload) and give the folder that save_pretrained then writes."
        )
    what = next((kind for member, kind in _MEMBERS.items() if (path / member).is_file()), None)
    return None if what is None else _instead(path, what)


def _instead(path: Path, what: str) -> str:
    return (
        f"{path} is {what}, which holds no weights as they were trained; "
        f"give the checkpoint it was made from, e.g. {_original(path)!r}."
    )


def _original(path: Path) -> str:
    """The released model that a path speaks of, else a well-known one."""
    text = str(path).lower()
    spoken = [name for name in released_names() if re.search(rf"(?<![a-z]){re.escape(name)}(?![a-z0-9])", text)]
    return hub_name(max(spoken, key=len) if spoken else "large-v3")
