"""`otoscope models`: which models can be loaded, and which are on this machine already."""

from __future__ import annotations

import json as jsonlib
from importlib.resources import files
from pathlib import Path
from typing import Any

from otoscope.cli.options import JsonOption
from otoscope.cli.terminal import megabytes, out, print_json, table

HUB_MODELS = {
    "openai/whisper-tiny": 37.8,
    "openai/whisper-tiny.en": 37.8,
    "openai/whisper-base": 72.6,
    "openai/whisper-base.en": 72.6,
    "openai/whisper-small": 241.7,
    "openai/whisper-small.en": 241.7,
    "openai/whisper-medium": 763.9,
    "openai/whisper-medium.en": 763.9,
    "openai/whisper-large-v2": 1543.3,
    "openai/whisper-large-v3": 1543.5,
    "openai/whisper-large-v3-turbo": 808.9,
}
"""Name → millions of parameters; any other Whisper checkpoint of the Hub, or a folder, loads as well."""


def run(json: JsonOption = False) -> None:
    """List the models: bundled, downloaded, on the Hub."""
    rows = [_bundled("pocket"), *_from_hub()]
    if json:
        print_json(rows)
        return
    listing = table("model", "where", "parameters>", "on disk>", "layers")
    for row in rows:
        here = row["where"] != "Hugging Face Hub"
        parameters = "" if row["parameters"] is None else f"{row['parameters'] / 1e6:,.1f} M"
        listing.add_row(
            f"[bold]{row['model']}[/]" if here else str(row["model"]),
            row["where"] if here else f"[dim]{row['where']}[/]",
            parameters,
            megabytes(row["bytes"]) if row["bytes"] else "",
            row["layers"] or "",
        )
    out().print(listing)
    out().print("[dim]Any Whisper checkpoint works: otoscope transcribe FILE --model NAME-ON-THE-HUB-OR-FOLDER[/]")


def _bundled(name: str) -> dict[str, Any]:
    folder = Path(str(files("otoscope"))) / "assets" / name
    return _row(name, "bundled", folder, _parameters(folder))


def _from_hub() -> list[dict[str, Any]]:
    """The known names, with their place on disk if downloaded, and other Whispers in the local cache."""
    cached = _cached_whispers()
    names = [*HUB_MODELS, *(name for name in sorted(cached) if name not in HUB_MODELS)]
    rows = []
    for name in names:
        millions = HUB_MODELS.get(name)
        if name in cached:
            rows.append(_row(name, "downloaded", cached[name], _parameters(cached[name])))
        else:
            count = None if millions is None else int(millions * 1e6)
            rows.append(_row(name, "Hugging Face Hub", None, count))
    return rows


def _row(name: str, where: str, folder: Path | None, parameters: int | None) -> dict[str, Any]:
    config = _config(folder)
    layers = f"{config['encoder_layers']} + {config['decoder_layers']}" if "encoder_layers" in config else None
    weights = list(folder.glob("*.safetensors")) if folder else []
    return {
        "model": name,
        "where": where,
        "parameters": parameters,
        "bytes": sum(file.stat().st_size for file in weights) or None,
        "layers": layers,
        "folder": None if folder is None else str(folder),
    }


def _config(folder: Path | None) -> dict[str, Any]:
    if folder is None or not (folder / "config.json").is_file():
        return {}
    loaded: dict[str, Any] = jsonlib.loads((folder / "config.json").read_text("utf-8"))
    return loaded


def _parameters(folder: Path) -> int | None:
    """Count the parameters from the headers of the safetensors files (8 bytes of length, then JSON)."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with open(file, "rb") as weights:
            header = jsonlib.loads(weights.read(int.from_bytes(weights.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for length in tensor["shape"]:
                    size *= length
                total += size
    return total or None


def _cached_whispers() -> dict[str, Path]:
    """Snapshots of Whisper models in the local cache of the Hub."""
    from huggingface_hub.constants import HF_HUB_CACHE

    found = {}
    for repository in Path(HF_HUB_CACHE).glob("models--*"):
        for config in sorted(repository.glob("snapshots/*/config.json")):
            try:
                if _config(config.parent).get("model_type") == "whisper":
                    found[repository.name.removeprefix("models--").replace("--", "/")] = config.parent
            except ValueError:
                continue
    return found
