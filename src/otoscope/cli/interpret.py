"""`otoscope interpret`: explanations of features in words, each tried on voices that it was not made from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import JsonOption, SeedOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import duration, err, escape, number, out, print_json, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas import Atlas
    from otoscope.atlas.interpretation import Endpoint, Interpretation, Rung

KEY = "OTOSCOPE_LLM_KEY"
"""Environment variable with the key of the endpoint."""
MAX_KEY_BYTES = 10_000
OFF = "Rung 3 is off: nothing was sent anywhere. Give --endpoint URL --llm-model NAME to ask a language model as well."


def run(
    feature: Annotated[
        str,
        typer.Argument(help="A dictionary (sae-2: its best features), or a feature (sae-2:30).", metavar="NAME"),
    ],
    top: Annotated[
        int, typer.Option("--top", metavar="N", min=1, help="Of a dictionary, the N features with the best labels.")
    ] = 10,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            metavar="URL",
            envvar="OTOSCOPE_LLM_ENDPOINT",
            help="Where a language model answers as OpenAI's does, e.g. http://localhost:8000/v1; off without it.",
        ),
    ] = None,
    llm_model: Annotated[
        str | None,
        typer.Option("--llm-model", metavar="NAME", envvar="OTOSCOPE_LLM_MODEL", help="Which model answers there."),
    ] = None,
    llm_key_file: Annotated[
        Path | None, typer.Option("--llm-key-file", metavar="FILE", help=f"Holds its key (default: ${KEY}, or none).")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="Longest time for one answer.")] = 120.0,
    concurrency: Annotated[int, typer.Option("--concurrency", metavar="N", help="Questions asked at a time.")] = 4,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what a language model would be asked first, and send nothing.")
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="Print the cards that the explanations rest on.")] = False,
    workspace: WorkspaceOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Explain features in words, and try each explanation on voices that it was not made from.

    Rung 1: the class it detects. Rung 2: how its moments sound. Rung 3: what a language model says of its card.

    Writes interpretations/NAME.jsonl in the workspace. Run it again and nothing is asked twice.
    """
    from otoscope.atlas.interpretation import card_of, interpret, prompt_of

    folder = open_workspace(workspace)
    name, chosen = _chosen(feature)
    atlas, corpus = folder.atlas(name), folder.corpus_of(name)
    features = [int(index) for index in atlas.find(limit=top).index] if chosen is None else [chosen]
    if dry_run:
        _show_prompt(prompt_of(card_of(atlas, corpus, features[0], seed=seed)), json)
        return
    asked = _endpoint(endpoint, llm_model, llm_key_file, timeout, concurrency)
    to = folder.folder / "interpretations" / f"{name}.jsonl"
    found = interpret(atlas, corpus, features, endpoint=asked, to=to, seed=seed, progress=not json)
    if json:
        print_json({"path": to, "interpretations": [each.to_json() for each in found], "usage": _usage(found)})
        return
    if card:
        for each in found:
            out().print(each.card or f"{each.address}: {each.note}", markup=False, soft_wrap=True)
    _show(found, atlas)
    out().print(f"[green]✓[/] {to}", soft_wrap=True)
    if asked is None:
        out().print(f"[dim]{OFF}[/]", soft_wrap=True)
    else:
        _show_usage(asked, _usage(found))


def _chosen(text: str) -> tuple[str, int | None]:
    from otoscope.workspace import Address

    if ":" not in text:
        return text, None
    address = Address.parse(text)
    return address.dictionary, address.index


def _endpoint(
    url: str | None, model: str | None, key_file: Path | None, timeout: float, concurrency: int
) -> Endpoint | None:
    """Return where to ask; None where no endpoint is given."""
    if not url:
        if model or key_file:
            err().print("[yellow]No --endpoint is given, so no language model is asked.[/]", soft_wrap=True)
        return None
    if not model:
        raise InputError(f"The endpoint {url} needs the name of a model: give --llm-model.")
    from otoscope.atlas.interpretation import Endpoint

    return Endpoint(url, model, _key(key_file), timeout_s=timeout, concurrency=concurrency)


def _key(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(KEY, "").strip() or None
    try:
        with open(file, "rb") as opened:
            data = opened.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise InputError(f"The key file {file} cannot be read ({error.strerror or error}).") from error
    if not data.strip() or len(data) > MAX_KEY_BYTES:
        raise InputError(f"The key file {file} does not hold a key and nothing else.")
    return data.decode("utf-8", "replace").strip()


def _show_prompt(messages: Any, json: bool) -> None:
    if json:
        print_json([dict(message) for message in messages])
        return
    for message in messages:
        out().print(f"[bold]{message['role']}:[/]")
        out().print(message["content"], markup=False, soft_wrap=True)
    out().print("[dim]Nothing was sent.[/]")


def _show(found: list[Interpretation], atlas: Atlas) -> None:
    """Print every explanation with how it did."""
    listing = table("feature", "rung", "explanation", "accuracy>", "95 %>", "null>", "verdict")
    for each in found:
        if not each.rungs:
            listing.add_row(f"[bold cyan]{each.address}[/]", "", f"[dim]{escape(each.note)}[/]", "", "", "", "")
        for place, rung in enumerate(each.rungs):
            address = f"[bold cyan]{each.address}[/]" if place == 0 else ""
            listing.add_row(address, f"{rung.rung} {rung.method}", *_cells(rung))
    console = out()
    console.print(listing)
    console.print(
        f"[dim]Accuracy: balanced, active against silent moments of held-out {atlas.meta['held_out']}, half of the "
        "silent ones near misses; null: the same explanations on random features.[/]",
        soft_wrap=True,
    )


def _cells(rung: Rung) -> tuple[str, ...]:
    said = escape(rung.name) if rung.name else f"[dim]{escape(rung.note)}[/]"
    if rung.score is None:
        note = f"[dim]not tried: {escape(rung.note)}[/]" if rung.name and rung.note else ""
        return (said, "", "", "", note)
    score = rung.score
    low, high = number(score.balanced_accuracy_low), number(score.balanced_accuracy_high)
    color = "green" if score.supported else "yellow"
    return (
        said,
        number(score.balanced_accuracy),
        f"[dim]{low}–{high}[/]",
        number(score.null),
        f"[{color}]{rung.verdict}[/]",
    )


def _usage(found: list[Interpretation]) -> dict[str, float]:
    """Sum what the language model cost; all of the features' answers, and what of it was asked in this run."""
    names = ("questions", "asked", "requests", "seconds", "prompt_tokens", "completion_tokens")
    asked = [rung.by for each in found if (rung := each.rung(3)) is not None]
    return {name: sum(by.get(name, 0) for by in asked) for name in names}


def _show_usage(endpoint: Endpoint, usage: dict[str, float]) -> None:
    out().print(
        f"[dim]{escape(endpoint.model)} at {escape(endpoint.host)}: {usage['questions']:,.0f} answers "
        f"({usage['asked']:,.0f} asked now), {usage['prompt_tokens']:,.0f} + {usage['completion_tokens']:,.0f} tokens, "
        f"{duration(usage['seconds'])} of waiting[/]",
        soft_wrap=True,
    )
