"""`otoscope atlas`: index a dictionary over a corpus: statistics, examples and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from otoscope.cli.options import (
    CorpusOption,
    DictionaryOption,
    JsonOption,
    SeedOption,
    WorkspaceOption,
    open_workspace,
)
from otoscope.cli.terminal import number, out, print_json, share, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.workspace import Workspace


def run(
    dictionary: DictionaryOption = None,
    corpus: CorpusOption = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="NAME", help="The store (default: the one with its site).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name (default: the dictionary's).")
    ] = None,
    workspace: WorkspaceOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Index a dictionary over a corpus, or list the atlases.

    Without --dictionary, list the atlases of the workspace.
    """
    folder = open_workspace(workspace)
    if dictionary is None:
        _list(folder, json)
        return
    store = store or _store_for(folder, folder.dictionary(dictionary).site, corpus)
    corpus = corpus or str(folder.store(store).meta["corpus"])
    from otoscope.workspace import atlas_stage

    outcome = atlas_stage(folder, store, dictionary, corpus, name or dictionary, seed=seed)
    atlas = folder.atlas(outcome.name)
    if json:
        print_json({**outcome.to_json(), "features": len(atlas.features), "labels": atlas.labels})
        return
    out().print(
        f"[green]✓[/] atlas [bold]{outcome.name}[/] {outcome.state}: {len(atlas.features):,} features over "
        f"{atlas.meta['n_frames']:,} frames, {len(atlas.labels)} labels",
        soft_wrap=True,
    )


def _store_for(folder: Workspace, site: str, corpus: str | None) -> str:
    """The one store that holds the site (of the corpus, if one is asked for)."""
    stores = {name: folder.store(name) for name in folder.names("stores")}
    fitting = [name for name, store in stores.items() if site in store.sites and corpus in (None, store.meta["corpus"])]
    if len(fitting) == 1:
        return fitting[0]
    what = f"{site} over the corpus {corpus!r}" if corpus else site
    if not fitting:
        raise InputError(f"No store holds {what}; harvest it first (`otoscope harvest --site {site}`).")
    raise InputError(f"Several stores hold {what} ({', '.join(fitting)}); choose one with --store.")


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
