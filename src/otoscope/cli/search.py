"""`otoscope search`: features by what they detect, and moments by sound, by value or by a combination of features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import DictionaryOption, JsonOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import number, out, print_json, share, table
from otoscope.errors import InputError, nearest

if TYPE_CHECKING:
    from otoscope.atlas import Atlas
    from otoscope.atlas.search.facets import Filters
    from otoscope.workspace import Workspace

COLUMNS = ("f1", "f1_low", "f1_high", "ap", "chance", "p_value", "density", "max")


def run(
    label: Annotated[
        str | None,
        typer.Argument(
            help="A phone (m), word (morning), sound (bird), natural class (nasal)…; with --between a feature.",
            metavar="LABEL",
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Only labels of this kind: phone, word, manner…")
    ] = None,
    nature: Annotated[
        str | None, typer.Option("--nature", metavar="NATURE", help="Only phonetic, lexical, speaker… features.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="CLIP@1.2-1.5", help="By sound: a clip or recording, and seconds.")
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="QUERY", help='Moments: "12 and not 88", "(12 > 0.5 or 7) and 3".')
    ] = None,
    between: Annotated[
        tuple[float, float] | None,
        typer.Option("--between", metavar="LOW HIGH", help="Moments at which a feature has such values."),
    ] = None,
    dictionary: DictionaryOption = None,
    min_f1: Annotated[float, typer.Option("--min-f1", metavar="F1", help="Only features with at least this F1.")] = 0.0,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="COLUMN", help="Order by a column of the atlas (-COLUMN: smallest).")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="How many to list.")] = 15,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Find features by what they detect, or moments by sound, by value or by a combination of features."""
    from otoscope.cli import moments

    folder = open_workspace(workspace)
    if not folder.names("atlases"):
        raise InputError(f"The workspace {folder.folder} has no atlas to search; `otoscope demo` builds some.")
    ways = [name for name, given in (("--like", like), ("--where", where), ("--between", between)) if given is not None]
    if len(ways) > 1 or (ways and ways != ["--between"] and label is not None):
        raise InputError(f"Search in one way at a time: leave out {'LABEL' if label else ' or '.join(ways[1:])}.")
    if like is not None:
        moments.like(folder, like, dictionary, limit, json)
    elif where is not None:
        moments.where(folder, where, dictionary, limit, json)
    elif between is not None:
        moments.between(folder, label, between, limit, json)
    else:
        _features(folder, label, kind, nature, dictionary, min_f1, sort, limit, json)


def _features(
    folder: Workspace,
    label: str | None,
    kind: str | None,
    nature: str | None,
    dictionary: str | None,
    min_f1: float,
    sort: str | None,
    limit: int,
    json: bool,
) -> None:
    """List the features of all atlases that match, best first."""
    from otoscope.atlas.search.facets import Filters

    if label is None and kind is None and nature is None and sort is None:
        raise InputError("Say what to search for: a LABEL, --kind, --nature, --sort, --like, --where or --between.")
    ranges: dict[str, tuple[float | None, float | None]] = {"f1": (min_f1, None)} if min_f1 > 0 else {}
    if nature is not None:
        ranges["nature"] = (at := _nature(nature), at)
    atlases = {name: folder.atlas(name) for name in ([dictionary] if dictionary else folder.names("atlases"))}
    rows, refusals = [], []
    for name, atlas in atlases.items():
        try:
            rows += _found(atlas, name, Filters(label=label, kind=kind, ranges=ranges), sort, limit)
        except InputError as error:
            refusals.append(error)
    if not rows:
        if len(refusals) == len(atlases):
            raise refusals[0]
        asked = repr(label) if label is not None else nature or kind
        raise InputError(f"No feature matches {asked} with F1 ≥ {min_f1:g}; lower --min-f1 or ask for less.")
    ascending = sort is not None and sort.startswith("-")
    rows.sort(key=lambda row: (math.isnan(row["key"]), row["key"] if ascending else -row["key"]))
    rows = [{name: value for name, value in row.items() if name != "key"} for row in rows[:limit]]
    for row in rows:
        name, index = row["feature"].rsplit(":", 1)
        row["sentence"] = atlases[name][int(index)].sentence
        row["example"] = best_example(atlases[name], int(index))
    if json:
        print_json(rows)
        return
    _show(rows)


def _nature(nature: str) -> int:
    from otoscope.atlas.labels.natures import NATURES

    if nature not in NATURES:
        hint = nearest(nature, NATURES) or f"; choose one of {', '.join(NATURES)}."
        raise InputError(f"There is no nature {nature!r}{hint}")
    return NATURES.index(nature)


def _found(atlas: Atlas, name: str, filters: Filters, sort: str | None, limit: int) -> list[dict[str, Any]]:
    from otoscope.atlas.search.facets import figure

    column = None if sort is None else sort.removeprefix("-")
    found = atlas.select(filters, column, descending=sort is None or not sort.startswith("-"), limit=limit)
    columns = {key: figure(atlas, key, found.features, found.label_rows).tolist() for key in (*COLUMNS, "label")}
    key = figure(atlas, column or "f1", found.features, found.label_rows).astype(float).tolist()
    rows = []
    for i, feature in enumerate(found.features.tolist()):
        label, kind = (None, None) if columns["label"][i] < 0 else atlas.classes[columns["label"][i]]
        figures = {each: columns[each][i] for each in COLUMNS}
        rows.append({"feature": f"{name}:{feature}", "label": label, "label_kind": kind, **figures, "key": key[i]})
    return rows


def _show(rows: list[dict[str, Any]]) -> None:
    listing = table("feature", "label", "F1>", "95 %>", "AP>", "chance>", "density>", "best example")
    for row in rows:
        example = row["example"]
        listing.add_row(
            f"[bold cyan]{row['feature']}[/]",
            f"{row['label']} [dim]{row['label_kind']}[/]" if row["label"] else "[dim]unnamed[/]",
            number(row["f1"]),
            f"[dim]{number(row['f1_low'])}–{number(row['f1_high'])}[/]",
            number(row["ap"]),
            number(row["chance"]),
            share(row["density"]),
            f"{example['clip_id']} at {example['time_s']:.2f} s" if example else "",
        )
    out().print(listing)
    out().print(f"[dim]otoscope features {rows[0]['feature']}  shows one of them in full[/]", soft_wrap=True)


def best_example(atlas: Atlas, feature: int) -> dict[str, Any] | None:
    """Return the strongest moment of a feature: clip, time and value."""
    top = atlas[feature].examples(kind="top", top=1)
    if not top:
        return None
    return {"clip_id": top[0].clip_id, "time_s": float(top[0].time_s), "value": float(top[0].value)}
