"""`otoscope corpus`: list, show, check and import collections of clips; count and export their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import JsonOption, WorkspaceOption, workspace_if_any
from otoscope.cli.terminal import duration, err, escape, out, print_json, table
from otoscope.errors import InputError, OtoscopeError

if TYPE_CHECKING:
    from otoscope.audio import Corpus
    from otoscope.audio.problems import OnError, Problem
    from otoscope.workspace import Workspace

SHOWN = 5
"""How many problems are printed; `--json` has all."""
SAMPLED = 300
"""Clips whose headers tell about how much sound a larger corpus of unknown length holds."""

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich", invoke_without_command=True
)

CorpusArgument = Annotated[
    str,
    typer.Argument(help="A corpus of the workspace, a bundled one, a folder or a manifest.", metavar="CORPUS"),
]
KindOption = Annotated[
    str | None,
    typer.Option("--kind", metavar="KIND", help="Its layout, if not to be guessed (`otoscope corpus kinds`)."),
]
SplitOption = Annotated[
    str | None, typer.Option("--split", metavar="NAME", help="Only this part: test, dev-clean, validated, fold 1…")
]
LabelsOption = Annotated[
    Path | None,
    typer.Option("--labels", metavar="PATH", help="Folder of label files (TextGrid, JSON…) of its own, or a CTM."),
]
OnErrorOption = Annotated[
    str,
    typer.Option("--on-error", metavar="raise|skip", help="Refuse a corpus with unusable items, or leave them out."),
]
CheckOption = Annotated[bool, typer.Option("--check", help="Decode every clip and name those that cannot be.")]


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
    rows = [_facts(open_corpus(name), "bundled", exact=json) for name in BUNDLED if name not in saved]
    if folder is not None:
        rows += [_facts(folder.corpus(name), str(folder.folder), exact=json) for name in saved]
    if json:
        print_json(rows)
        return
    listing = table("corpus", "where", "clips>", "sound>", "speakers>", "tiers")
    for row in rows:
        listing.add_row(
            f"[bold]{row['name']}[/]",
            row["where"],
            f"{row['clips']:,}",
            _sound(row),
            str(len(row["speakers"])),
            ", ".join(row["tiers"]) or "[dim]none[/]",
        )
    out().print(listing)


@app.command("kinds")
def kinds(json: JsonOption = False) -> None:
    """List the layouts of corpora that are recognised."""
    from otoscope.audio.readers.registry import readers

    rows = [{"kind": each.kind, "title": each.title, "layout": each.layout} for each in readers().values()]
    if json:
        print_json(rows)
        return
    listing = table("kind", "data set", "recognised by")
    for row in rows:
        listing.add_row(f"[bold]{row['kind']}[/]", row["title"], escape(row["layout"]))
    out().print(listing)


@app.command("show")
def show(
    corpus: CorpusArgument,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="How many clips to list.")] = 10,
    kind: KindOption = None,
    split: SplitOption = None,
    labels: LabelsOption = None,
    on_error: OnErrorOption = "raise",
    check: CheckOption = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a corpus holds."""
    clips = find_corpus(corpus, workspace_if_any(workspace), kind, split, labels, on_error)
    problems = list(clips.problems)
    if check:
        clips, found = _checked(clips, on_error)
        problems += found
    facts = _facts(clips, corpus, exact=json)
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
        print_json({**facts, "fingerprint": clips.fingerprint, "problems": _rows(problems), "listed": listed})
        return
    people = facts["speakers"]
    out().print(
        f"[bold]{escape(clips.name)}[/]: {len(clips):,} clips, {_sound(facts)} of sound, "
        f"{len(people):,} speaker{'' if len(people) == 1 else 's'}{f' ({escape(_some(people))})' if people else ''}, "
        f"tiers: {escape(', '.join(facts['tiers'])) or 'none'}",
        soft_wrap=True,
    )
    listing = table("clip", "length>", "speaker", "text or sound")
    for clip in clips[:limit]:
        said = " ".join(interval.label for interval in clip.tier("words"))
        what = clip.text or said or clip.attributes.get("sound_class", "")
        listing.add_row(clip.clip_id, f"{clip.duration_s:.2f} s", escape(_short(clip.speaker or "")), escape(what))
    out().print(listing)
    if len(clips) > limit:
        out().print(f"[dim]… and {len(clips) - limit:,} more (--limit)[/]")
    if check:
        out().print(f"[green]✓[/] {len(clips):,} clips can be decoded")
    _print_problems(problems)


@app.command("import")
def import_corpus(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder (`otoscope corpus kinds`) or a manifest (.csv, .tsv, .jsonl, .parquet).", metavar="PATH"
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name in the workspace (default: as it is).")
    ] = None,
    kind: KindOption = None,
    split: SplitOption = None,
    labels: LabelsOption = None,
    on_error: OnErrorOption = "raise",
    check: CheckOption = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Save a corpus in the workspace (recordings stay where they are)."""
    from otoscope.workspace import Workspace, as_name, corpus_stage

    clips = find_corpus(source, None, kind, split, labels, on_error)
    problems = list(clips.problems)
    if check:
        clips, found = _checked(clips, on_error)
        problems += found
    folder = Workspace.open(workspace, create=True)
    default = clips.name if split is None else f"{clips.name}-{split}"
    outcome = corpus_stage(folder, clips, name or as_name(default))
    if json:
        facts = _facts(folder.corpus(outcome.name), str(folder.folder), exact=True)
        print_json({**facts, "path": outcome.path, "problems": _rows(problems)})
        return
    out().print(f"[green]✓[/] {outcome.name}: {len(clips):,} clips, in {outcome.path}", soft_wrap=True)
    _print_problems(problems)


@app.command("export-labels")
def export_labels(
    corpus: CorpusArgument,
    to: Annotated[Path, typer.Argument(help="A new folder.", metavar="FOLDER")],
    format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="TextGrid, JSON, CTM or Audacity.")
    ] = "TextGrid",
    kind: KindOption = None,
    split: SplitOption = None,
    labels: LabelsOption = None,
    on_error: OnErrorOption = "raise",
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Write the tiers of a corpus as files for Praat, Audacity or Kaldi."""
    clips = find_corpus(corpus, workspace_if_any(workspace), kind, split, labels, on_error)
    files = clips.export_labels(to, format)
    if json:
        print_json({"folder": to, "files": [path.name for path in files], "problems": _rows(clips.problems)})
        return
    more = f" … {files[-1].name}" if len(files) > 1 else ""
    count = f"{len(files):,} file{'s' if len(files) > 1 else ''}"
    out().print(f"[green]✓[/] {count} in {to}: {escape(files[0].name + more)}", soft_wrap=True)
    _print_problems(clips.problems)


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


def find_corpus(
    text: str,
    workspace: Workspace | None,
    kind: str | None = None,
    split: str | None = None,
    labels: Path | None = None,
    on_error: str = "raise",
) -> Corpus:
    """Open a corpus of the workspace by name, else whatever `otoscope.corpus` opens."""
    from otoscope.audio import corpus as open_corpus

    if workspace is not None and text in workspace.names("corpora"):
        text, kind = str(workspace.path("corpora", text)), kind or "saved"
    return open_corpus(text, kind=kind, split=split, labels=labels, on_error=_choice(on_error))


def _choice(on_error: str) -> OnError:
    from otoscope.audio.problems import check_on_error

    return check_on_error(on_error, "--on-error")


def _checked(clips: Corpus, on_error: str) -> tuple[Corpus, list[Problem]]:
    """Decode every clip; name and leave out what cannot be decoded, or stop, as chosen."""
    found = list(clips.check(progress=err().is_terminal))
    if found and on_error == "raise":
        _print_problems(found)
        raise OtoscopeError(
            f"{len(found):,} of {len(clips):,} clips of {clips.name} cannot be used; mend them, or leave them out with "
            "--on-error skip."
        )
    bad = {problem.clip_id for problem in found}
    return (clips.select(lambda clip: clip.clip_id not in bad) if found else clips), found


def _rows(problems: Sequence[Problem]) -> list[dict[str, str | None]]:
    return [{"place": each.place, "reason": each.reason, "clip_id": each.clip_id} for each in problems]


def _print_problems(problems: Sequence[Problem]) -> None:
    """Name what was left out, on standard error."""
    if not problems:
        return
    plural = "s" if len(problems) > 1 else ""
    err().print(f"[bold yellow]![/] {len(problems):,} item{plural} left out:")
    for problem in problems[:SHOWN]:
        err().print(f"  [dim]{escape(problem.place)}[/] {escape(problem.reason)}", soft_wrap=True)
    if len(problems) > SHOWN:
        err().print(f"  [dim]… and {len(problems) - SHOWN:,} more (--json lists all)[/]")


def count_labels(clips: Corpus) -> dict[str, Counter[str]]:
    """Count every label: one counter per tier, and one for sound classes."""
    counts: dict[str, Counter[str]] = {}
    for clip in clips:
        for name, tier in clip.tiers.items():
            counts.setdefault(name, Counter()).update(interval.label for interval in tier)
        if "sound_class" in clip.attributes:
            counts.setdefault("sound_class", Counter())[clip.attributes["sound_class"]] += 1
    return counts


def _facts(clips: Corpus, where: str, exact: bool = True) -> dict[str, Any]:
    audio_s, is_exact = _length_s(clips, exact)
    return {
        "name": clips.name,
        "where": where,
        "clips": len(clips),
        "audio_seconds": round(audio_s, 3),
        "audio_seconds_exact": is_exact,
        "speakers": clips.speakers,
        "tiers": clips.tier_names,
        "has_labels": clips.has_labels,
    }


def _length_s(clips: Corpus, exact: bool) -> tuple[float, bool]:
    """Return the seconds of sound; of a large corpus whose headers would all have to be read, an estimate."""
    unknown = sum(clip.end_s is None for clip in clips)
    if exact or unknown <= 10 * SAMPLED:
        return clips.duration_s, True
    sample = clips[:: len(clips) // SAMPLED]
    return sample.duration_s / len(sample) * len(clips), False


def _sound(facts: dict[str, Any]) -> str:
    return ("" if facts["audio_seconds_exact"] else "about ") + duration(facts["audio_seconds"])


def _short(name: str, width: int = 24) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"


def _some(names: list[str], count: int = 8) -> str:
    return ", ".join(_short(name) for name in names[:count]) + (", …" if len(names) > count else "")
