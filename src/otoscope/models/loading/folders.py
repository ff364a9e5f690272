"""Finding a checkpoint: the bundled model, a local folder or file, or a name on the Hugging Face Hub."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from otoscope.errors import InputError, OtoscopeError, nearest
from otoscope.models.loading.foreign import foreign_file
from otoscope.models.loading.released import hub_name, in_cache_of_openai, released_name, released_names

BUNDLED = {"pocket": "assets/pocket"}

_HUB_TEXTS = ["*.json", "*.txt"]
_HUB_WEIGHTS = (["model.safetensors", "model-*.safetensors"], ["pytorch_model.bin", "pytorch_model-*.bin"])
_FILES = (".pt", ".pth")


def find_checkpoint(name: str | os.PathLike[str], *, weights: bool = True) -> tuple[str, Path]:
    """Return `(name, folder or .pt file)` of a bundled model, a local folder or file, or a name of the Hub (downloaded
    when not cached).

    A name of openai-whisper's (`tiny`, `base.en`, `turbo`; `whisper-tiny` too) means the same model on the Hub, unless
    only openai-whisper's own download of it is here. Without `weights`, only the small files are downloaded.

    Raises:
        InputError: nothing is there, it is a file of another kind, or the Hub does not know the name.
        OtoscopeError: the Hub cannot be reached and the model is not in the local cache.
    """
    text = os.fspath(name)
    if text in BUNDLED:
        return text, _bundled(text)
    path = Path(text).expanduser()
    if text and path.is_dir():
        return path.resolve().name, path.resolve()
    if path.is_file():
        return path.stem, _file(path.resolve())
    if (released := released_name(text)) is not None:
        return _released(released, weights)
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        near = nearest(text.removeprefix("whisper-"), released_names()) if text and "/" not in text else ""
        raise InputError(
            f"There is no model {text!r}{near or ';'} give a folder, a .pt file, 'pocket', or a name on the Hub like "
            "'openai/whisper-tiny'."
        )
    return text, _from_hub(text, weights)


def _bundled(name: str) -> Path:
    folder = Path(str(files("otoscope"))) / BUNDLED[name]
    if not (folder / "config.json").is_file():
        raise OtoscopeError(f"The bundled model {name!r} is missing from this installation; reinstall otoscope.")
    return folder


def _file(path: Path) -> Path:
    if reason := foreign_file(path):
        raise InputError(reason)
    if path.suffix.lower() not in _FILES:
        raise InputError(
            f"{path} is a file; give the folder of a Hugging Face checkpoint (with its config.json), or a .pt file of "
            "openai-whisper."
        )
    return path


def _released(name: str, weights: bool) -> tuple[str, Path]:
    hub = hub_name(name)
    here = in_cache_of_openai(name)
    if here is not None and not is_cached(hub):
        return name, here
    return hub, _from_hub(hub, weights)


def is_cached(name: str) -> bool:
    """Whether the Hub's local cache holds the configuration and weights of a model."""
    from huggingface_hub import try_to_load_from_cache

    weights = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    held = [try_to_load_from_cache(name, file) for file in ("config.json", *weights)]
    return isinstance(held[0], str) and any(isinstance(file, str) for file in held[1:])


def _from_hub(name: str, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        for patterns in _HUB_WEIGHTS if weights else ([],):
            folder = Path(snapshot_download(name, allow_patterns=[*_HUB_TEXTS, *patterns]))
            if any(any(folder.glob(pattern)) for pattern in patterns):
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
