"""`otoscope search`: which features detect a sound, a word or a class of sounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import DictionaryOption, JsonOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import number, out, print_json, share, table
from otoscope.errors import InputError, nearest

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
    rows = [
        {**row, "feature": f"{name}:{row['feature']}"}
        for name, atlas in atlases.items()
        for row in _find(atlas, label, kind, min_f1, limit)
    ]
    if not rows:
        _refuse_unknown(atlases, label, kind, min_f1)
    rows = sorted(rows, key=lambda row: -(row["f1"] or 0.0))[:limit]
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


def _find(atlas: Atlas, label: str, kind: str | None, min_f1: float, limit: int) -> list[dict[str, Any]]:
    try:
        found = atlas.find(label=label, kind=kind, min_f1=min_f1, limit=limit)
    except InputError:
        return []
    columns = ("label", "label_kind", "f1", "f1_low", "f1_high", "ap", "chance", "p_value", "density", "max")
    return [
        {"feature": int(index), **{name: row.get(name) for name in columns}}
        for index, row in zip(found.index, found.to_dict("records"), strict=True)
    ]


def _refuse_unknown(atlases: dict[str, Atlas], label: str, kind: str | None, min_f1: float) -> None:
    known = sorted({str(row.label) for atlas in atlases.values() for row in atlas.labels.itertuples()})
    if not known:
        raise InputError(
            "The atlases have no labels, because the corpus has no tiers and no sound classes; "
            "build one over a corpus with labels (`otoscope corpus labels mini`)."
        )
    if label.strip("/") in {name.strip("/") for name in known} and min_f1 > 0:
        raise InputError(f"No feature detects {label!r} with F1 ≥ {min_f1:g}; lower --min-f1.")
    what = f" of kind {kind!r}" if kind else ""
    hint = nearest(label, known) or f"; there are: {', '.join(known[:12])}…"
    raise InputError(f"No atlas knows the label {label!r}{what}{hint}")


def best_example(atlas: Atlas, feature: int) -> dict[str, Any] | None:
    """Return the strongest moment of a feature: clip, time and value."""
    top = atlas[feature].examples(kind="top", top=1)
    if not top:
        return None
    return {"clip_id": top[0].clip_id, "time_s": float(top[0].time_s), "value": float(top[0].value)}
