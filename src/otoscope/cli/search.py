"""`otoscope search`: which features detect a sound, a word or a class of sounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import DictionaryOption, JsonOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import number, out, print_json, share, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas import Atlas


def run(
    label: Annotated[
        str, typer.Argument(help="A phone (m), a word (morning) or a sound class (bird).", metavar="LABEL")
    ],
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only phone, word or sound_class.")] = None,
    dictionary: DictionaryOption = None,
    min_f1: Annotated[float, typer.Option("--min-f1", metavar="F1", help="Only features with at least this F1.")] = 0.0,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="How many to list.")] = 15,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Find the features that detect a phone, word or sound."""
    folder = open_workspace(workspace)
    names = [dictionary] if dictionary else folder.names("atlases")
    if not names:
        raise InputError(f"The workspace {folder.folder} has no atlas to search; `otoscope demo` builds some.")
    atlases = {name: folder.atlas(name) for name in names}
    rows, refusals = [], []
    for name, atlas in atlases.items():
        try:
            found = atlas.find(label=label, kind=kind, min_f1=min_f1, limit=limit)
        except InputError as error:
            refusals.append(error)
            continue
        rows += [{"feature": f"{name}:{index}", **_columns(row)} for index, row in found.to_dict("index").items()]
    if not rows:
        if len(refusals) == len(atlases):
            raise refusals[0]
        raise InputError(f"No feature detects {label!r} with F1 ≥ {min_f1:g}; lower --min-f1.")
    rows = sorted(rows, key=lambda row: -row["f1"])[:limit]
    for row in rows:
        name, index = row["feature"].rsplit(":", 1)
        row["example"] = best_example(atlases[name], int(index))
    if json:
        print_json(rows)
        return
    listing = table("feature", "label", "F1>", "95 %>", "AP>", "chance>", "density>", "best example")
    for row in rows:
        example = row["example"]
        listing.add_row(
            f"[bold cyan]{row['feature']}[/]",
            f"{row['label']} [dim]{row['label_kind']}[/]",
            number(row["f1"]),
            f"[dim]{number(row['f1_low'])}–{number(row['f1_high'])}[/]",
            number(row["ap"]),
            number(row["chance"]),
            share(row["density"]),
            f"{example['clip_id']} at {example['time_s']:.2f} s" if example else "",
        )
    out().print(listing)
    out().print(f"[dim]otoscope features {rows[0]['feature']}  shows one of them in full[/]", soft_wrap=True)


def _columns(row: dict[Any, Any]) -> dict[str, Any]:
    names = ("label", "label_kind", "f1", "f1_low", "f1_high", "ap", "chance", "p_value", "density", "max")
    return {name: row[name] for name in names}


def best_example(atlas: Atlas, feature: int) -> dict[str, Any] | None:
    """Return the strongest moment of a feature: clip, time and value."""
    top = atlas[feature].examples(kind="top", top=1)
    if not top:
        return None
    return {"clip_id": top[0].clip_id, "time_s": float(top[0].time_s), "value": float(top[0].value)}
