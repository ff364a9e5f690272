"""`otoscope atlas`: index dictionaries over a corpus: statistics, examples and labels."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otoscope.cli.options import (
    CorpusOption,
    JsonOption,
    SeedOption,
    WorkspaceOption,
    open_workspace,
)
from otoscope.cli.terminal import number, out, print_json, share, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.workspace import StageOutcome, Workspace


class Source(StrEnum):
    """Where frames come from."""

    STORE = "store"
    MODEL = "model"


def run(
    dictionary: Annotated[
        list[str] | None,
        typer.Option("--dictionary", "-d", metavar="NAME", help="A dictionary; repeatable: one pass for all."),
    ] = None,
    corpus: CorpusOption = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="NAME", help="The store (default: the one with its sites).")
    ] = None,
    source: Annotated[
        Source | None,
        typer.Option("--from", help="Read a store or run the model (default: the model where no store has the sites)."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name (default: the dictionary's).")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="I/N", help="Encode only this share of the clips, to be merged later."),
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option("--merge", metavar="PART", help="Join parts or atlases (names or folders); repeatable."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for whoever works in the workspace.")] = False,
    workspace: WorkspaceOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Index dictionaries over a corpus, or list the atlases.

    Without --dictionary, list the atlases of the workspace.
    """
    folder = open_workspace(workspace)
    if merge:
        _refuse(("--store", store), ("--from", source), ("--part", part), what="--merge reads parts, so")
        _report(folder, [_merge(folder, merge, dictionary, corpus, name, seed, wait)], json)
        return
    if not dictionary:
        _list(folder, json)
        return
    if name is not None and len(dictionary) > 1:
        raise InputError("--name names one atlas; leave it out with several dictionaries.")
    from otoscope.workspace import atlas_stages, part_stages

    chosen, corpus = _source(folder, dictionary, corpus, store, source)
    names = {name or each: each for each in dictionary}
    if part is None:
        _report(folder, atlas_stages(folder, chosen, names, corpus, seed=seed, wait=wait), json)
        return
    numbers = re.fullmatch(r"(\d+)/(\d+)", part)
    if not numbers:
        raise InputError(f"--part {part!r} is not a part; write for example --part 2/4.")
    outcomes = part_stages(folder, chosen, names, corpus, int(numbers[1]), int(numbers[2]), wait=wait)
    if json:
        print_json([outcome.to_json() for outcome in outcomes])
        return
    for outcome in outcomes:
        out().print(f"[green]✓[/] part [bold]{outcome.name}[/] {outcome.state}: {outcome.path}", soft_wrap=True)


def _report(folder: Workspace, outcomes: list[StageOutcome], json: bool) -> None:
    rows = []
    for outcome in outcomes:
        atlas = folder.atlas(outcome.name)
        rows.append({**outcome.to_json(), "features": len(atlas), "labels": atlas.labels})
        if not json:
            out().print(
                f"[green]✓[/] atlas [bold]{outcome.name}[/] {outcome.state}: {len(atlas):,} features over "
                f"{atlas.meta['n_frames']:,} frames, {len(atlas.labels)} labels",
                soft_wrap=True,
            )
    if json:
        print_json(rows[0] if len(rows) == 1 else rows)


def _source(
    folder: Workspace, dictionaries: list[str], corpus: str | None, store: str | None, source: Source | None
) -> tuple[str | None, str]:
    """The store to read (None: run the model) and the corpus."""
    if source is Source.MODEL:
        _refuse(("--store", store), what="--from model reads no store, so")
    sites = [site for each in dictionaries for site in folder.dictionary(each).sites]
    if store is None and source is not Source.MODEL:
        store = _store_for(folder, sites, corpus, needed=source is Source.STORE)
    if store is not None:
        return store, corpus or str(folder.store(store).meta["corpus"])
    if corpus is None:
        known = folder.names("corpora")
        if len(known) != 1:
            raise InputError(f"Say with --corpus which clips the model shall hear ({', '.join(known) or 'none yet'}).")
        corpus = known[0]
    return None, corpus


def _store_for(folder: Workspace, sites: list[str], corpus: str | None, needed: bool) -> str | None:
    """The one store that holds the sites (of the corpus, if one is asked for); None where none does."""
    stores = {name: folder.store(name) for name in folder.names("stores")}
    fitting = [
        name
        for name, store in stores.items()
        if set(sites) <= set(store.sites) and corpus in (None, store.meta["corpus"])
    ]
    if len(fitting) == 1:
        return fitting[0]
    what = " and ".join(dict.fromkeys(sites)) + (f" over the corpus {corpus!r}" if corpus else "")
    if fitting:
        raise InputError(f"Several stores hold {what} ({', '.join(fitting)}); choose one with --store.")
    if needed:
        raise InputError(f"No store holds {what}; harvest it first (`otoscope harvest --site {sites[0]}`).")
    return None


def _merge(
    folder: Workspace,
    parts: list[str],
    dictionaries: list[str] | None,
    corpus: str | None,
    name: str | None,
    seed: int,
    wait: bool,
) -> StageOutcome:
    from otoscope.atlas.building import part_facts
    from otoscope.workspace import merge_stage

    if dictionaries and len(dictionaries) > 1:
        raise InputError("--merge joins parts of one dictionary; name one.")
    places = [_part(folder, text) for text in parts]
    facts = part_facts(places[0])
    dictionary = dictionaries[0] if dictionaries else facts["dictionary"]["name"]
    corpus = corpus or facts["corpus"]["name"]
    return merge_stage(folder, places, dictionary, corpus, name or dictionary, seed=seed, wait=wait)


def _part(folder: Workspace, text: str) -> Path:
    """A part or an atlas by its name in the workspace, or by its folder."""
    from otoscope.workspace.atlas_stages import PARTS

    places = [folder.folder / PARTS / text, folder.folder / "atlases" / text, Path(text)]
    found = next((place for place in places if (place / "meta.json").is_file()), None)
    if found is None:
        known = [path.name for path in sorted((folder.folder / PARTS).glob("[!.]*"))] + folder.names("atlases")
        raise InputError(f"There is no part or atlas {text!r} ({', '.join(known) or 'none in this workspace'}).")
    return found


def _refuse(*options: tuple[str, object], what: str) -> None:
    for option, value in options:
        if value is not None:
            raise InputError(f"{what} {option} makes no sense with it.")


def _list(folder: Workspace, json: bool) -> None:
    rows = []
    for name in folder.names("atlases"):
        atlas = folder.atlas(name)
        features = atlas.features
        rows.append(
            {
                "atlas": name,
                "dictionary": atlas.meta["dictionary"]["name"],
                "site": str(atlas.meta["site"]),
                "corpus": atlas.meta["corpus"]["name"],
                "features": len(features),
                "frames": atlas.meta["n_frames"],
                "dead_share": float(features["dead"].mean()),
                "median_density": float(features["density"].median()),
                "named": int((features["f1"] >= 0.5).sum()),
            }
        )
    if json:
        print_json(rows)
        return
    if not rows:
        raise InputError("The workspace has no atlas yet; `otoscope atlas --dictionary NAME` builds one.")
    listing = table("atlas", "site", "corpus", "features>", "frames>", "dead>", "median density>", "F1 ≥ 0.5>")
    for row in rows:
        listing.add_row(
            f"[bold]{row['atlas']}[/]",
            str(row["site"]),
            str(row["corpus"]),
            number(row["features"], 0),
            number(row["frames"], 0),
            share(row["dead_share"]),
            share(row["median_density"]),
            number(row["named"], 0),
        )
    out().print(listing)
