"""`otoscope corpus`: list, show and import collections of clips, and count their labels."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import JsonOption, WorkspaceOption, workspace_if_any
from otoscope.cli.terminal import duration, escape, out, print_json, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.audio import Corpus
    from otoscope.workspace import Workspace

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich", invoke_without_command=True
)

CorpusArgument = Annotated[
    str,
    typer.Argument(help="A corpus of the workspace, a bundled one, a folder or a manifest.", metavar="CORPUS"),
]


@app.callback()
def corpora(ctx: typer.Context, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List, show, import and count the labels of corpora."""
    if ctx.invoked_subcommand is None:
        list_corpora(workspace, json)
    elif workspace is not None or json:
        raise InputError(f"Put the options after the second word: otoscope corpus {ctx.invoked_subcommand} … --json.")


@app.command("list")
def list_corpora(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List the bundled corpora and those of the workspace."""
    from otoscope.audio import corpus as open_corpus
    from otoscope.audio.corpus import BUNDLED

    folder = workspace_if_any(workspace)
    saved = [] if folder is None else folder.names("corpora")
    rows = [_facts(open_corpus(name), "bundled") for name in BUNDLED if name not in saved]
    if folder is not None:
        rows += [_facts(folder.corpus(name), str(folder.folder)) for name in saved]
    if json:
        print_json(rows)
        return
    listing = table("corpus", "where", "clips>", "sound>", "speakers>", "tiers")
    for row in rows:
        listing.add_row(
            f"[bold]{row['name']}[/]",
            row["where"],
            f"{row['clips']:,}",
            duration(row["audio_seconds"]),
            str(len(row["speakers"])),
            ", ".join(row["tiers"]) or "[dim]none[/]",
        )
    out().print(listing)


@app.command("show")
def show(
    corpus: CorpusArgument,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="How many clips to list.")] = 10,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a corpus holds."""
    clips = find_corpus(corpus, workspace_if_any(workspace))
    facts = _facts(clips, corpus)
    if json:
        listed = [
            {
                "clip_id": clip.clip_id,
                "uri": clip.uri,
                "duration_s": clip.duration_s,
                "text": clip.text,
                "speaker": clip.speaker,
                "attributes": dict(clip.attributes),
                "tiers": {name: len(tier) for name, tier in clip.tiers.items()},
            }
            for clip in clips
        ]
        print_json({**facts, "fingerprint": clips.fingerprint, "listed": listed})
        return
    people = facts["speakers"]
    out().print(
        f"[bold]{clips.name}[/]: {len(clips):,} clips, {duration(facts['audio_seconds'])} of sound, "
        f"{len(people)} speakers{f' ({_some(people)})' if people else ''}, "
        f"tiers: {', '.join(facts['tiers']) or 'none'}",
        soft_wrap=True,
    )
    listing = table("clip", "length>", "speaker", "text or sound")
    for clip in clips[:limit]:
        what = clip.text or clip.attributes.get("sound_class", "")
        listing.add_row(clip.clip_id, f"{clip.duration_s:.2f} s", clip.speaker or "", escape(what))
    out().print(listing)
    if len(clips) > limit:
        out().print(f"[dim]… and {len(clips) - limit:,} more (--limit)[/]")


@app.command("import")
def import_corpus(
    source: Annotated[
        str,
        typer.Argument(help="A folder of recordings or a manifest (.csv, .jsonl, .parquet).", metavar="PATH"),
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name in the workspace (default: as it is).")
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Save a corpus in the workspace (recordings stay where they are)."""
    from otoscope.audio import corpus as open_corpus
    from otoscope.workspace import Workspace, as_name, corpus_stage

    clips = open_corpus(source)
    folder = Workspace.open(workspace, create=True)
    outcome = corpus_stage(folder, clips, name or as_name(clips.name))
    if json:
        print_json({**_facts(folder.corpus(outcome.name), str(folder.folder)), "path": outcome.path})
    else:
        out().print(f"[green]✓[/] {outcome.name}: {len(clips):,} clips, in {outcome.path}", soft_wrap=True)


@app.command("labels")
def labels(
    corpus: CorpusArgument,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only this tier, or sound_class.")] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Count the labels of a corpus, tier by tier."""
    clips = find_corpus(corpus, workspace_if_any(workspace))
    counts = count_labels(clips)
    if not counts:
        raise InputError(
            f"The corpus {clips.name!r} has no labels: no tiers and no sound classes. "
            "A manifest can give them (columns `tiers`, `sound_class`)."
        )
    if kind is not None:
        if kind not in counts:
            raise InputError(f"The corpus {clips.name!r} has no {kind!r}; it has {', '.join(counts)}.")
        counts = {kind: counts[kind]}
    if json:
        print_json({kind: dict(found.most_common()) for kind, found in counts.items()})
        return
    for tier, found in counts.items():
        out().print(f"[bold]{tier}[/] {len(found):,} labels, {sum(found.values()):,} occurrences")
        out().print("  ".join(f"{escape(label)} [dim]{count}[/]" for label, count in found.most_common()))


def find_corpus(text: str, workspace: Workspace | None) -> Corpus:
    """Open a corpus of the workspace by name, else whatever `otoscope.corpus` opens."""
    from otoscope.audio import corpus as open_corpus

    if workspace is not None and text in workspace.names("corpora"):
        return workspace.corpus(text)
    return open_corpus(text)


def count_labels(clips: Corpus) -> dict[str, Counter[str]]:
    """Count every label: one counter per tier, and one for sound classes."""
    counts: dict[str, Counter[str]] = {}
    for clip in clips:
        for name, tier in clip.tiers.items():
            counts.setdefault(name, Counter()).update(interval.label for interval in tier)
        if "sound_class" in clip.attributes:
            counts.setdefault("sound_class", Counter())[clip.attributes["sound_class"]] += 1
    return counts


def _facts(clips: Corpus, where: str) -> dict[str, Any]:
    return {
        "name": clips.name,
        "where": where,
        "clips": len(clips),
        "audio_seconds": round(clips.duration_s, 3),
        "speakers": clips.speakers,
        "tiers": clips.tier_names,
        "has_labels": clips.has_labels,
    }


def _some(names: list[str], count: int = 8) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
