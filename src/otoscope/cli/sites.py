"""`otoscope sites`: every address inside a model, from the one table that defines them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from otoscope.cli.options import JsonOption, ModelOption, WorkspaceOption, open_model, workspace_if_any
from otoscope.cli.terminal import escape, out, print_json, table


def run(
    model: ModelOption = None,
    workspace: WorkspaceOption = None,
    every_layer: Annotated[bool, typer.Option("--all", help="One line per layer instead of one per kind.")] = False,
    json: JsonOption = False,
) -> None:
    """List what can be read and edited inside a model."""
    speech_model = open_model(model, workspace_if_any(workspace))
    from otoscope.models import SITES, parse_site

    dims = speech_model.dims

    if json or every_layer:
        rows: list[dict[str, Any]] = []
        for site in speech_model.sites():
            row = parse_site(site.base, speech_model.dims).row
            rows.append(
                {
                    "site": site.name,
                    "shape": row.shape,
                    "width": None if row.is_map else speech_model.width(site),
                    "hz": None if site.of_text(speech_model.dims) else site.clock(speech_model.dims).positions_hz,
                    "editable": row.writable,
                    "meaning": row.meaning,
                }
            )
        if json:
            missing = [{"site": row.name, "reason": reason} for row in SITES if (reason := row.missing_from(dims))]
            print_json({"model": speech_model.name, "sites": rows, "missing": missing})
            return
        listing = table("site", "shape", "width>", "meaning")
        for entry in rows:
            listing.add_row(entry["site"], entry["shape"], str(entry["width"] or ""), entry["meaning"])
        out().print(listing)
        return
    listing = table("site", "shape", "width>", "edit", "meaning")
    for row in (row for row in SITES if not row.missing_from(dims)):
        width = "" if row.is_map else str(parse_site(row.at(0), dims).width(dims))
        name = row.name + ("[dim]\\[h][/]" if row.heads else "")
        listing.add_row(name, escape(row.shape), width, "✓" if row.writable else "", row.meaning)
    facts = f"{dims.family}, encoder layers L = 0…{dims.n_layers - 1}, heads h = 0…{dims.n_heads - 1}"
    if dims.n_decoder_layers:
        facts += f"; decoder layers 0…{dims.n_decoder_layers - 1}, heads 0…{dims.n_decoder_heads - 1}"
    out().print(f"[bold]{speech_model.name}[/]: {facts}")
    out().print(listing)
    reasons: dict[str, list[str]] = {}
    for row in SITES:
        if reason := row.missing_from(dims):
            reasons.setdefault(reason, []).append(row.name)
    for reason, names in reasons.items():
        out().print(f"[dim]not in this model ({reason}): {', '.join(names)}[/]")
