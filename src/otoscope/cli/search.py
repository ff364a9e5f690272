"""`otoscope search`: features by what they detect, and moments by sound, by value or by a combination of features."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import DictionaryOption, JsonOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import escape, number, out, print_json, share, table
from otoscope.errors import InputError, nearest

if TYPE_CHECKING:
    from otoscope.atlas import Atlas
    from otoscope.atlas.search.facets import Filters
    from otoscope.workspace import Workspace

SHORT = 56
"""Characters of a note or an explanation that are shown."""
COLUMNS = ("f1", "f1_low", "f1_high", "ap", "chance", "p_value", "density", "max")


def run(
    label: Annotated[
        str | None,
        typer.Argument(
            help="A phone (m), word (morning), sound (bird), natural class (nasal)…, or words of a note or "
            "a supported explanation; with --between a feature.",
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
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="How many to list of each sort.")] = 15,
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
    import numpy as np

    from otoscope.atlas.search.facets import Filters

    if label is None and kind is None and nature is None and sort is None:
        raise InputError("Say what to search for: a LABEL, --kind, --nature, --sort, --like, --where or --between.")
    ranges: dict[str, tuple[float | None, float | None]] = {"f1": (min_f1, None)} if min_f1 > 0 else {}
    if nature is not None:
        ranges["nature"] = (at := _nature(nature), at)
    atlases = {name: folder.atlas(name) for name in ([dictionary] if dictionary else folder.names("atlases"))}
    filters = Filters(label=label, kind=kind, ranges=ranges)
    told = {} if label is None else {name: _told(folder, label, name) for name in atlases}
    named, refusals = _of_all(atlases, dict.fromkeys(atlases, filters), sort, limit)
    shown = {row["feature"] for row in named}
    others = {name: [each for each in said if f"{name}:{each}" not in shown] for name, said in told.items()}
    among = {name: replace(filters, label=None, among=np.array(each)) for name, each in others.items() if each}
    more, problems = _of_all(atlases, among, sort, limit)
    rows = [*named, *more]
    if not rows:
        if len(refusals) == len(atlases) and (problems or not among):
            raise (problems or refusals)[0]
        asked = repr(label) if label is not None else nature or kind
        raise InputError(f"No feature matches {asked} with F1 ≥ {min_f1:g}; lower --min-f1 or ask for less.")
    for row in rows:
        name, index = row["feature"].rsplit(":", 1)
        by_label = ["label"] if label is not None and row["feature"] in shown else []
        row["found_by"] = by_label + told.get(name, {}).get(int(index), [])
        row["sentence"] = atlases[name][int(index)].sentence
        row["example"] = best_example(atlases[name], int(index))
    if json:
        print_json(rows)
        return
    _show(rows, label or "")


def _told(folder: Workspace, text: str, name: str) -> dict[int, list[str]]:
    """Return the features of an atlas that notes and explanations tell of with these words, and what they say."""
    found: dict[int, list[str]] = {}
    for told in folder.told(text, name).values():
        for feature, said in told.items():
            found.setdefault(feature, []).extend(said)
    return found


def _of_all(
    atlases: Mapping[str, Atlas], filters: Mapping[str, Filters], sort: str | None, limit: int
) -> tuple[list[dict[str, Any]], list[InputError]]:
    """Return the best rows of the atlases that `filters` has, and why others have none."""
    rows: list[dict[str, Any]] = []
    refusals = []
    for name, wanted in filters.items():
        try:
            rows += _found(atlases[name], name, wanted, sort, limit)
        except InputError as error:
            refusals.append(error)
    ascending = sort is not None and sort.startswith("-")
    rows.sort(key=lambda row: (math.isnan(row["key"]), row["key"] if ascending else -row["key"]))
    return [{name: value for name, value in row.items() if name != "key"} for row in rows[:limit]], refusals


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


def _show(rows: list[dict[str, Any]], text: str) -> None:
    reasons = [_reason(row["found_by"], text) for row in rows]
    told = ["found by"] if any(reasons) else []
    listing = table("feature", "label", "F1>", "95 %>", "AP>", "chance>", "density>", "best example", *told)
    for row, reason in zip(rows, reasons, strict=True):
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
            *([f"[dim]{escape(reason)}[/]"] if told else []),
        )
    out().print(listing)
    out().print(f"[dim]otoscope features {rows[0]['feature']}  shows one of them in full[/]", soft_wrap=True)


def _reason(found_by: list[str], text: str) -> str:
    """Return the first note or explanation that told of a row, shortened, and how many more did."""
    told = [said for said in found_by if said != "label"]
    if not told:
        return ""
    by, _, said = told[0].partition(": ")
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    return f"{by}: {_shortened(said, text)}{more}"


def _shortened(said: str, text: str) -> str:
    """Return as much of a line as is shown, with the first of the words that were looked for."""
    if len(said) <= SHORT:
        return said
    at = min((found.start() for word in text.split() if (found := re.search(re.escape(word), said, re.I))), default=0)
    start = 0 if at < SHORT // 2 else min(at - SHORT // 4, len(said) - SHORT)
    end = start + SHORT
    return f"{'…' if start else ''}{said[start:end].strip()}{'…' if end < len(said) else ''}"


def best_example(atlas: Atlas, feature: int) -> dict[str, Any] | None:
    """Return the strongest moment of a feature: clip, time and value."""
    top = atlas[feature].examples(kind="top", top=1)
    if not top:
        return None
    return {"clip_id": top[0].clip_id, "time_s": float(top[0].time_s), "value": float(top[0].value)}
