"""Finding and opening checkpoints: the bundled model, a local folder, or a name on the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from otoscope.errors import InputError, OtoscopeError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BUNDLED = {"pocket": "assets/pocket"}

_HUB_TEXTS = ["*.json", "*.txt"]
_HUB_WEIGHTS = (["model.safetensors", "model-*.safetensors"], ["pytorch_model.bin", "pytorch_model-*.bin"])


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened checkpoint: Hugging Face's module and tokenizer, and where they came from."""

    name: str
    folder: Path
    module: Any
    tokenizer: Any


def find_folder(name: str | os.PathLike[str]) -> tuple[str, Path]:
    """Return `(name, folder)` of a bundled model, a local folder, or a Hub name (downloaded when not cached).

    Raises:
        InputError: no such folder, or a name that the Hub does not know.
        OtoscopeError: the Hub cannot be reached and the model is not in the local cache.
    """
    text = os.fspath(name)
    if text in BUNDLED:
        folder = Path(str(files("otoscope"))) / BUNDLED[text]
        if not (folder / "config.json").is_file():
            raise OtoscopeError(f"The bundled model {text!r} is missing from this installation; reinstall otoscope.")
        return text, folder
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return folder.resolve().name, folder.resolve()
    if folder.is_file():
        raise InputError(f"{text} is a file; give the folder of a Hugging Face checkpoint (with its config.json).")
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise InputError(
            f"There is no model folder {text!r}; give a folder, 'pocket', or a name on the Hub like "
            "'openai/whisper-tiny'."
        )
    return text, _from_hub(text)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        for weights in _HUB_WEIGHTS:
            folder = Path(snapshot_download(name, allow_patterns=[*_HUB_TEXTS, *weights]))
            if any(any(folder.glob(pattern)) for pattern in weights):
                break
        return folder
    except HFValidationError as error:
        raise InputError(f"{name!r} is neither a folder nor a valid name on the Hugging Face Hub.") from error
    except RepositoryNotFoundError as error:
        raise InputError(f"The Hugging Face Hub has no public model {name!r}, and there is no such folder.") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise OtoscopeError(
            f"The model {name!r} is not in the local cache and the Hugging Face Hub cannot be reached; "
            "connect once, or give a local folder."
        ) from error
    except OSError as error:
        raise OtoscopeError(f"The model {name!r} could not be downloaded: {_first_line(error)}") from error


def open_checkpoint(name: str | os.PathLike[str], dtype: torch.dtype) -> Checkpoint:
    """Load a Whisper checkpoint in Hugging Face layout, without the network unless its name is on the Hub.

    Raises:
        InputError: not found, not a Whisper model, or weights that do not fit its configuration.
        OtoscopeError: damaged files, or the Hub cannot be reached.
    """
    from transformers import WhisperForConditionalGeneration, WhisperTokenizer

    from otoscope.models.families import whisper

    label, folder = find_folder(name)
    _check_config(folder)
    safe = _weight_files(folder)[0].suffix == ".safetensors"
    try:
        with _quiet_transformers():
            module, report = WhisperForConditionalGeneration.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=safe,
                weights_only=True,
                output_loading_info=True,
            )
            tokenizer = WhisperTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise OtoscopeError(f"The checkpoint in {folder} could not be loaded: {_first_line(error)}") from error
    wrong = sorted(set(report["missing_keys"]) - {"proj_out.weight"})
    wrong += [str(key) for key in report["mismatched_keys"]]
    if wrong:
        raise InputError(f"The checkpoint in {folder} lacks {len(wrong)} weights its config asks for, e.g. {wrong[0]}.")
    module.eval().requires_grad_(False)
    return Checkpoint(label, folder, whisper.tap(module), tokenizer)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and notices off the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_config(folder: Path) -> None:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} has no config.json; give the folder of a Hugging Face checkpoint.") from None
    except (OSError, ValueError) as error:
        raise OtoscopeError(f"{path} is damaged and cannot be read ({error}).") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "whisper":
        raise InputError(f"{folder} holds a {kind!r} model; this release reads Whisper models.")


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: one, or the shards named by an index; safetensors before `.bin`."""
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        whole, index = folder / f"{stem}{suffix}", folder / f"{stem}{suffix}.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            return [folder / shard for shard in sorted(shards)]
    raise InputError(f"{folder} has no model.safetensors and no pytorch_model.bin; the weights are missing.")


def hash_checkpoint(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint's tensors as stored, in order of their names, however they are sharded."""
    paths = _weight_files(folder)
    if paths[0].suffix == ".bin":
        state: dict[str, Tensor] = {}
        for path in paths:
            state.update(torch.load(path, map_location="cpu", weights_only=True))
        return hash_tensors(sorted(state.items()))
    with contextlib.ExitStack() as stack:
        shards = [stack.enter_context(safe_open(path, "pt")) for path in paths]
        home = {name: shard for shard in shards for name in shard.keys()}  # noqa: SIM118 (not a dict)
        return hash_tensors((name, home[name].get_tensor(name)) for name in sorted(home))


def hash_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of tensors, in the order given."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().cpu().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
