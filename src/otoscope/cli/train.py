"""`otoscope train`: make a dictionary of one site from harvested activations."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from otoscope.cli.options import JsonOption, SeedOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import number, out, print_json, share
from otoscope.errors import InputError


def run(
    store: Annotated[
        str | None, typer.Option("--store", metavar="NAME", help="The store (default: the only one).")
    ] = None,
    site: Annotated[
        str | None, typer.Option("--site", "-s", metavar="SITE", help="The site (default: the store's only one).")
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="topk, neurons (every unit, both signs) or random.")
    ] = "topk",
    features: Annotated[int, typer.Option("--features", metavar="N", help="Size of the dictionary (topk).")] = 1024,
    k: Annotated[int, typer.Option("--k", metavar="K", help="Active features per frame (topk).")] = 16,
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", help="Training steps (default: about 40 passes over the frames)."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", help="Frames per step.")] = 4096,
    lr: Annotated[
        float | None, typer.Option("--lr", metavar="RATE", help="Peak learning rate (default: by size).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name (default: such as sae-2).")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all-clips", help="Train on all clips, without held-out ones to score on.")
    ] = False,
    workspace: WorkspaceOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train a sparse dictionary; score it on held-out speakers.

    With --kind, save the neurons or a random basis instead.

    Run the same command again after an interruption: it goes on where it stopped.
    """
    folder = open_workspace(workspace)
    store = store or _only(folder.names("stores"), "store", "--store")
    source = folder.store(store)
    from otoscope.workspace import DictionaryPlan, as_name, dictionary_figures, held_out_split, train_stage

    site = str(folder.model().site(site)) if site else _only([str(s) for s in source.sites], "site", "--site")
    layer = next((part for part in site.split(".") if part.isdecimal()), "")
    name = name or as_name(f"{'sae' if kind == 'topk' else kind}-{layer}")
    plan = DictionaryPlan(name, site, kind, features, k, steps, batch_size, lr)
    held = held_out_split(folder, str(source.meta["corpus"]))
    outcome = train_stage(folder, store, plan, seed=seed, clips=None if everything else held.fit)
    figures: dict[str, Any] = dictionary_figures(folder, store, folder.dictionary(name), held)
    if json:
        print_json({**outcome.to_json(), **figures})
        return
    quality = ""
    if "fvu" in figures:
        quality = (
            f": FVU {number(figures['fvu'], 3)}, L0 {number(figures['l0'], 1)}, "
            f"{share(figures['dead_share'])} dead on {figures['held_out']['clips']} clips of held-out {held.by}"
        )
    out().print(
        f"[green]✓[/] dictionary [bold]{name}[/] {outcome.state}: {figures['n_features']:,} features "
        f"of {site}{quality}",
        soft_wrap=True,
    )


def _only(names: list[str], noun: str, option: str) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"The workspace has no {noun} yet; `otoscope harvest` makes one.")
    raise InputError(f"There are several {noun}s ({', '.join(names)}); choose one with {option}.")
