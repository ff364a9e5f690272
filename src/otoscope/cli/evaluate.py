"""`otoscope evaluate`: the scorecard of a dictionary beside the baselines it has to beat; several of them compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import DeviceOption, JsonOption, SeedOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import duration, number, out, print_json, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.evaluation.scorecard import Scorecard
    from otoscope.workspace import Workspace


def run(
    dictionaries: Annotated[
        list[str] | None, typer.Argument(help="Dictionaries of the workspace (default: the only one).", metavar="NAME")
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full/--core", help="Everything on all held-out clips, or the core set (minutes on a laptop)."),
    ] = False,
    baselines: Annotated[
        str | None,
        typer.Option(
            "--baselines",
            metavar="LIST",
            help="Which to beat, e.g. random,pca, or none (default: neurons, random, pca, frozen_decoder, soft_frozen, "
            "random_weights).",
        ),
    ] = None,
    sections: Annotated[
        str | None,
        typer.Option(
            "--sections",
            metavar="LIST",
            help="Only these of reconstruction, probes, coverage, clustering, features, absorption, stability, splice.",
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option("--seeds", metavar="N", help="Train it from N seeds in all, and say how stable features are."),
    ] = 1,
    splice_clips: Annotated[
        int | None,
        typer.Option("--splice-clips", metavar="N", help="Clips that are heard spliced (default: 120; --full: all)."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Hold the dictionaries against each other, on one more page.")
    ] = False,
    store: Annotated[
        str | None, typer.Option("--store", metavar="NAME", help="The store (default: the one that has the site).")
    ] = None,
    workspace: WorkspaceOption = None,
    device: DeviceOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Measure a dictionary, on voices that it was not trained on, beside the baselines that it has to beat.

    Reconstruction, probes, coverage, PNMI, single features, absorption, and WER with the reconstruction spliced in.

    Makes scorecard.html, .json and .parquet. Run it again after an interruption: what was measured is kept.
    """
    folder = open_workspace(workspace)
    names = list(dict.fromkeys(dictionaries or [_only(folder.names("dictionaries"))]))
    if compare and len(names) < 2:
        raise InputError(f"--compare needs two dictionaries or more, and only {names[0]!r} is named.")
    if seeds < 1 or seeds == 2:
        raise InputError(
            f"--seeds {seeds} is not enough to say how stable features are; ask for 3 or more (or 1: not at all)."
        )
    from otoscope.evaluation.scorecard import Parameters
    from otoscope.workspace.evaluating import evaluate_stage

    given = splice_clips if splice_clips is not None else None if full else Parameters.splice_clips
    cards = {}
    for name in names:
        cards[name] = evaluate_stage(
            folder,
            name,
            store=store,
            baselines=_listed(baselines),
            sections=_listed(sections),
            seeds=seeds - 1,
            parameters=Parameters(full=full, splice_clips=given, seed=seed),
            device=device,
        )
    page = _compared(folder, cards) if compare else None
    if json:
        found: list[dict[str, Any]] = [
            {**card.to_json(), "path": str(folder.path("scorecards", n))} for n, card in cards.items()
        ]
        print_json(
            {"scorecards": found, "comparison": page and str(page)}
            if compare
            else found[0]
            if len(found) == 1
            else found
        )
        return
    for name, card in cards.items():
        show(card, folder.path("scorecards", name))
    if page is not None:
        out().print(f"[green]✓[/] comparison: {page}", soft_wrap=True)


def show(card: Scorecard, path: Path) -> None:
    """Print the figures that count: of the dictionary, and of every baseline."""
    from otoscope.evaluation.scorecard import SECTIONS

    console = out()
    subjects = [each for each in card.subjects if each.role != "raw"]
    headlines = [h for section in SECTIONS.values() for h in section.headlines]
    listing = table("", *(f"{each.name}>" for each in subjects), title=card.name)
    for headline in headlines:
        cells = []
        for subject in subjects:
            found = [row.measure for row in card.select(headline.measure, subject.role)]
            found = [measure for measure in found if dict(measure.of or {}) == dict(headline.of)]
            cells.append(number(found[0].value, 3) if found else "")
        if any(cells):
            listing.add_row(headline.title, *cells)
    console.print(listing)
    for note in card.notes:
        console.print(f"[dim]{note}.[/]", soft_wrap=True)
    seconds = sum(card.provenance["seconds"].values())
    console.print(f"[green]✓[/] {path / 'scorecard.html'} ({duration(seconds)} of work)", soft_wrap=True)


def _compared(folder: Workspace, cards: dict[str, Scorecard]) -> Path:
    from otoscope.evaluation.scorecard import comparison
    from otoscope.storage import atomic_path

    path = folder.path("scorecards", "any").parent / f"compare-{'-'.join(cards)}.html"[:200]
    with atomic_path(path) as temporary:
        temporary.write_text(comparison(list(cards.values())), encoding="utf-8")
    return path


def _listed(text: str | None) -> list[str] | None:
    """The names of a list; `none` is the empty one."""
    if text is None:
        return None
    return [] if text == "none" else [part.strip() for part in text.split(",") if part.strip()]


def _only(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError("The workspace has no dictionary yet; `otoscope train` makes one.")
    raise InputError(f"There are several dictionaries ({', '.join(names)}); name the ones to evaluate.")
