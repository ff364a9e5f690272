"""The page that a dictionary has on the Hugging Face Hub: what it is, how good it is, and how to open it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.dictionaries.formats.saelens import ARCHITECTURES
from otoscope.errors import OtoscopeError

if TYPE_CHECKING:
    from otoscope.dictionaries.dictionary import Dictionary

TAGS = ("sparse-autoencoder", "interpretability", "speech", "audio", "otoscope")
_PER_SECTION = 8
"""Figures of each section of a scorecard that a page shows."""


def model_card(
    dictionary: Dictionary, *, repo: str, path: str, licence: str = "mit", scorecard: Mapping[str, Any] | None = None
) -> str:
    """Return `README.md` for a dictionary that lies in folder `path` of `repo`: YAML front matter and text.

    Args:
        dictionary: what the page is about.
        repo: its repository, `user/name`.
        path: its folder there.
        licence: a licence as the Hub names them.
        scorecard: what `scorecard.json` holds, for a table of figures.
    """
    import yaml

    model = model_name(dictionary)
    front: dict[str, Any] = {
        "license": licence,
        "library_name": "saelens" if dictionary.kind in ARCHITECTURES else "otoscope",
        "tags": [*TAGS, dictionary.kind],
    }
    if "/" in model:
        front["base_model"] = model
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {dictionary.name}",
        _description(dictionary, model),
        _facts(dictionary, model),
        *([] if scorecard is None else [_figures(scorecard)]),
        _opening(dictionary, repo, path),
    ]
    return "\n\n".join(parts) + "\n"


def model_name(dictionary: Dictionary) -> str:
    """Return the model that a dictionary was made for, as its metadata name it; empty if they do not."""
    model = dictionary.metadata.get("model")
    named = model.get("name", model.get("model")) if isinstance(model, Mapping) else model
    return str(dictionary.metadata.get("model_name") or named or "")


def read_scorecard(path: Path) -> dict[str, Any]:
    """Return what a `scorecard.json` holds.

    Raises:
        OtoscopeError: it is damaged, or something else.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OtoscopeError(f"{path} is damaged and cannot be read ({error}).") from error
    if not isinstance(held, dict) or not isinstance(held.get("rows"), list):
        raise OtoscopeError(f"{path} is no scorecard: it has no rows.")
    return held


def _description(dictionary: Dictionary, model: str) -> str:
    where = f"`{dictionary.site}`" if dictionary.site else "a site that its files do not name"
    target = f", rebuilding `{dictionary.target_site}`" if dictionary.target_site != dictionary.site else ""
    of = f" of `{model}`" if model else ""
    return (
        f"A dictionary of {dictionary.n_features:,} features (architecture `{dictionary.kind}`) that reads {where}{of}"
        f"{target}. Made with Otoscope."
    )


def _facts(dictionary: Dictionary, model: str) -> str:
    imported = dictionary.metadata.get("imported")
    training = dictionary.metadata.get("training")
    spec = training.get("spec") if isinstance(training, Mapping) else None
    rows = {
        "model": model,
        "reads": " + ".join(dictionary.sites),
        "rebuilds": dictionary.target_site,
        "features": f"{dictionary.n_features:,}",
        "width": " → ".join(str(width) for width in dict.fromkeys((dictionary.d_in, dictionary.d_out))),
        "active per frame": str(getattr(dictionary, "k", "")),
        "each frame is first": {"none": ""}.get(how := getattr(dictionary, "normalisation", "none"), how),
        "came from": imported.get("format", "") if isinstance(imported, Mapping) else "",
        "trained with": json.dumps(spec, ensure_ascii=False) if isinstance(spec, Mapping) else "",
        "fingerprint": dictionary.fingerprint[:16],
    }
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows.items() if value]
    return "\n".join(["| | |", "|---|---|", *lines])


def _figures(scorecard: Mapping[str, Any]) -> str:
    """The figures of the dictionary itself; those of its baselines are in `scorecard.json`."""
    rows = [row for row in scorecard["rows"] if isinstance(row, Mapping) and not row.get("of")]
    subjects = scorecard.get("subjects") or [{}]
    own = subjects[0].get("role", "trained")
    lines, shown = [], dict[str, int]()
    for row in rows:
        section, value = str(row.get("section", "")), row.get("value")
        if row.get("subject") != own or not isinstance(value, int | float):
            continue
        shown[section] = shown.get(section, 0) + 1
        if shown[section] <= _PER_SECTION:
            low, high = row.get("low"), row.get("high")
            span = f"{low:.3g} to {high:.3g}" if isinstance(low, int | float) and isinstance(high, int | float) else ""
            lines.append(f"| {_cell(section)} | {_cell(row.get('name'))} | {value:.3g} | {span} |")
    head = ["| section | figure | value | 95 % |", "|---|---|---|---|"]
    return "\n".join(["## Scorecard", "", *head, *lines, "", "All of it, with its baselines: `scorecard.json`."])


def _opening(dictionary: Dictionary, repo: str, path: str) -> str:
    text = [
        "## How to open it",
        "",
        "```python",
        "import otoscope as oto",
        "",
        f'sae = oto.pull("{repo}", "{path}")',
        "```",
    ]
    if dictionary.kind in ARCHITECTURES:
        text += [
            "",
            "```python",
            "from sae_lens import SAE",
            "",
            f'sae = SAE.from_pretrained("{repo}", "{path}")',
            "```",
        ]
    return "\n".join(text)


def _cell(value: object) -> str:
    """A text that cannot end its cell of a table, nor start markup of its own."""
    return " ".join(str(value).replace("|", "\\|").replace("<", "&lt;").split())
