"""Finding a checkpoint: the bundled model, a local folder, or a name on the Hugging Face Hub."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from otoscope.errors import InputError, OtoscopeError

BUNDLED = {"pocket": "assets/pocket"}

_HUB_TEXTS = ["*.json", "*.txt"]
_HUB_WEIGHTS = (["model.safetensors", "model-*.safetensors"], ["pytorch_model.bin", "pytorch_model-*.bin"])


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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
