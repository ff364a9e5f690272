"""`otoscope models`: which models can be loaded, which are on this machine already, and what one of them is."""

from __future__ import annotations

import json as jsonlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import JsonOption
from otoscope.cli.terminal import escape, megabytes, out, print_json, table

if TYPE_CHECKING:
    from otoscope.models.loading.checkpoint import Checkpoint

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
    "facebook/wav2vec2-base-960h": 94.4,
    "facebook/hubert-base-ls960": 94.4,
    "microsoft/wavlm-base-plus": 94.4,
}
"""Name → millions of parameters; any other checkpoint of these families loads as well."""


def run(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Show the facts of these: a name, a folder, or a .pt file."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the models: bundled, downloaded, on the Hub; or show what the given ones are."""
    if models:
        facts = [_facts(model) for model in models]
        if json:
            print_json(facts)
            return
        for found in facts:
            _print_facts(found)
        return
    rows = [_bundled("pocket"), *_from_hub(), *_from_openai()]
    rows.sort(key=lambda row: row["where"] == "Hugging Face Hub")
    if json:
        print_json(rows)
        return
    _print_list(rows)


def _print_list(rows: list[dict[str, Any]]) -> None:
    from otoscope.models.families import FAMILIES

    listing = table("model", "where", "parameters>", "on disk>", "layers>")
    for row in rows:
        here = row["where"] != "Hugging Face Hub"
        name = escape(Path(row["model"]).name if row["where"] == "openai-whisper" else row["model"])
        parameters = "" if row["parameters"] is None else f"{row['parameters'] / 1e6:,.1f} M"
        listing.add_row(
            f"[bold]{name}[/]" if here else name,
            row["where"] if here else "[dim]Hub[/]",
            parameters,
            megabytes(row["bytes"]) if row["bytes"] else "",
            str(row["layers"] or ""),
        )
    out().print(listing)
    out().print(
        f"[dim]Any checkpoint of these families loads, by name, folder or .pt file: {', '.join(FAMILIES)}.\n"
        "What one of them is: otoscope models NAME[/]"
    )


def _bundled(name: str) -> dict[str, Any]:
    folder = Path(str(files("otoscope"))) / "assets" / name
    return _row(name, "bundled", folder, _parameters(folder))


def _from_hub() -> list[dict[str, Any]]:
    """The known names, with their place on disk if downloaded, and other models in the local cache."""
    cached = _cached_models()
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


def _from_openai() -> list[dict[str, Any]]:
    """What openai-whisper has downloaded for itself."""
    from otoscope.models.loading.released import cache_of_openai

    return [
        {**_row(str(file), "openai-whisper", file, None), "family": "whisper", "bytes": file.stat().st_size}
        for file in sorted(cache_of_openai().glob("*.pt"))
    ]


def _row(name: str, where: str, path: Path | None, parameters: int | None) -> dict[str, Any]:
    folder = path if path is not None and path.is_dir() else None
    config = _config(folder)
    layers = f"{config['encoder_layers']} + {config['decoder_layers']}" if "encoder_layers" in config else None
    weights = [] if folder is None else [*folder.glob("*.safetensors")] or [*folder.glob("*.bin")]
    return {
        "model": name,
        "family": config.get("model_type") or name.split("/")[-1].split("-")[0],
        "where": where,
        "parameters": parameters,
        "bytes": sum(file.stat().st_size for file in weights) or None,
        "layers": layers or config.get("num_hidden_layers"),
        "path": None if path is None else str(path),
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


def _cached_models() -> dict[str, Path]:
    """Snapshots of models of our families in the local cache of the Hub."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from otoscope.models.families import FAMILIES

    found = {}
    for repository in Path(HF_HUB_CACHE).glob("models--*"):
        for config in sorted(repository.glob("snapshots/*/config.json")):
            try:
                if _config(config.parent).get("model_type") in FAMILIES:
                    found[repository.name.removeprefix("models--").replace("--", "/")] = config.parent
            except ValueError:
                continue
    return found


def _facts(name: str) -> dict[str, Any]:
    """What a checkpoint says of itself; its weights are not read."""
    from otoscope.models.loading.checkpoint import describe_checkpoint
    from otoscope.models.sites import site_names

    checkpoint = describe_checkpoint(name)
    dims, generation = checkpoint.dims, checkpoint.generation
    languages = [str(code).strip("<|>") for code in generation.get("lang_to_id") or ()]
    heads = generation.get("alignment_heads") or []
    return {
        "model": checkpoint.name,
        "given": name,
        "family": checkpoint.family.name,
        "path": str(checkpoint.path),
        "parameters": sum(weight.numel() for weight in checkpoint.module.parameters()),
        "hears": _hearing(checkpoint),
        "encoder": {"layers": dims.n_layers, "width": dims.d_model, "heads": dims.n_heads, "mlp": dims.d_mlp},
        "decoder": {
            "layers": dims.n_decoder_layers,
            "heads": dims.n_decoder_heads,
            "mlp": dims.d_decoder_mlp,
            "positions": dims.n_text_positions,
        }
        if dims.n_decoder_layers
        else None,
        "norm": dims.norm,
        "tokens": dims.n_vocab or None,
        "tokenizer": checkpoint.tokenizer is not None,
        "languages": languages,
        "alignment_heads": [f"decoder.{layer}.cross[{head}]" for layer, head in heads],
        "sites": len(site_names(dims)),
    }


def _hearing(checkpoint: Checkpoint) -> dict[str, Any]:
    dims = checkpoint.dims
    return {
        "mel_bins": dims.n_mels or None,
        "window_s": dims.window_s,
        "frames_per_s": 16000 / dims.hop_samples,
    }


def _print_facts(facts: dict[str, Any]) -> None:
    hears, encoder, decoder = facts["hears"], facts["encoder"], facts["decoder"]
    heard = f"{hears['mel_bins']} mel bins" if hears["mel_bins"] else "samples at 16 kHz"
    rows = [
        ("family", f"{facts['family']}, {facts['norm']}-norm blocks"),
        ("from", facts["path"]),
        ("parameters", f"{facts['parameters'] / 1e6:,.1f} M"),
        ("hears", f"{heard}, windows of {hears['window_s']:g} s, {hears['frames_per_s']:g} frames per second"),
        (
            "encoder",
            f"{encoder['layers']} layers, width {encoder['width']:,}, {encoder['heads']} heads, "
            f"{encoder['mlp']:,} neurons each",
        ),
    ]
    if decoder:
        rows.append(
            (
                "decoder",
                f"{decoder['layers']} layers, {decoder['heads']} heads, {decoder['mlp']:,} neurons each, "
                f"{decoder['positions']} text positions",
            )
        )
    if facts["tokens"]:
        rows.append(("tokens", f"{facts['tokens']:,}" + ("" if facts["tokenizer"] else ", but no tokenizer found")))
    if facts["languages"]:
        rows.append(("languages", f"{len(facts['languages'])}: {' '.join(facts['languages'])}"))
    if facts["alignment_heads"]:
        rows.append(("word times", _grouped(facts["alignment_heads"])))
    rows.append(("sites", f"{facts['sites']} (otoscope sites --model {facts['given']})"))
    listing = table("", "", title=escape(facts["model"]))
    listing.show_header = False
    for name, value in rows:
        listing.add_row(f"[dim]{name}[/]", escape(value))
    out().print(listing)


def _grouped(heads: list[str]) -> str:
    """`decoder.2.cross[1]` and `decoder.2.cross[4]` as `decoder.2.cross[1, 4]`."""
    layers: dict[str, list[str]] = {}
    for head in heads:
        layer, _, number = head.rstrip("]").partition("[")
        layers.setdefault(layer, []).append(number)
    return ", ".join(f"{layer}[{', '.join(numbers)}]" for layer, numbers in sorted(layers.items()))
