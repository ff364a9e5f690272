"""`otoscope notes`: list, add, export, import and compare people's labels and notes of features."""

from __future__ import annotations

import getpass
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import DictionaryOption, JsonOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import escape, number, out, print_json, share, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas.notes import Evidence, FeatureKey, Note
    from otoscope.workspace import Workspace

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich", invoke_without_command=True
)

AuthorOption = Annotated[
    str | None, typer.Option("--author", metavar="NAME", help="Who writes (default: $OTOSCOPE_AUTHOR, or your login).")
]
FileArgument = Annotated[Path, typer.Argument(help="A file of notes, one JSON object per line.", metavar="FILE")]


@app.callback()
def notes(ctx: typer.Context, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List, add, export, import and compare people's labels and notes of features."""
    if ctx.invoked_subcommand is None:
        list_notes(workspace=workspace, json=json)
    elif workspace is not None or json:
        raise InputError(f"Put the options after the second word: otoscope notes {ctx.invoked_subcommand} … --json.")


@app.command("list")
def list_notes(
    feature: Annotated[
        str | None, typer.Argument(help="A feature (sae-2:30); all of them if absent.", metavar="FEATURE")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="WORDS", help="Only notes with these words or beginnings of words."),
    ] = None,
    author: Annotated[str | None, typer.Option("--author", metavar="NAME", help="Only what this person wrote.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Only label, comment, tag, star or verdict.")
    ] = None,
    conflicts: Annotated[bool, typer.Option("--conflicts", help="Only notes whose edits exclude each other.")] = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """List notes."""
    folder = open_workspace(workspace)
    _known_kind(kind)
    kept = folder.notes()
    found = kept.search(search) if search else kept.all()
    if feature is not None:
        wanted = _key(folder, feature)
        found = [note for note in found if _place(note.feature) == _place(wanted)]
    shown = [
        note
        for note in found
        if (author is None or author in {each.editor for each in note.versions})
        and (kind is None or note.current.kind == kind)
        and (note.in_conflict or not conflicts)
    ]
    if json:
        print_json([_record(note) for note in shown])
        return
    if not shown:
        out().print('[dim]No notes; `otoscope notes add sae-2:30 "…"` writes one, and so does the browser app.[/]')
        return
    listing = table("feature", "kind", "text", "by", "written")
    for note in shown:
        for each in note.versions:
            mark = " [yellow](one of several versions)[/]" if note.in_conflict else ""
            written = each.edited[:16].replace("T", " ")
            text = escape(_shown(each.text, each.about)) + mark
            listing.add_row(f"[bold cyan]{note.feature}[/]", each.kind, text, escape(each.editor), written)
    out().print(listing)


@app.command("add")
def add_note(
    feature: Annotated[str, typer.Argument(help="A feature, such as sae-2:30.", metavar="FEATURE")],
    text: Annotated[str, typer.Argument(help="What to say; nothing for a star.", metavar="TEXT")] = "",
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="label, comment, tag or star.")] = "label",
    author: AuthorOption = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", metavar="SHARE", help="How sure you are, 0 to 1.")
    ] = None,
    evidence: Annotated[
        list[str] | None,
        typer.Option(
            "--evidence", metavar="WHY", help="A moment (CLIP@0.5-1.2, in seconds) or a reference in words; repeatable."
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Add a label, comment, tag or star to a feature."""
    folder = open_workspace(workspace)
    _known_kind(kind)
    made = folder.notes().add(
        _key(folder, feature),
        kind,
        text,
        author=author or os.environ.get("OTOSCOPE_AUTHOR") or getpass.getuser(),
        confidence=confidence,
        evidence=[_evidence(each) for each in evidence or []],
    )
    if json:
        print_json(_record(made))
        return
    out().print(f"[green]✓[/] {kind} of {made.feature} by {escape(made.current.editor)}", soft_wrap=True)


@app.command("export")
def export_notes(file: FileArgument, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Write every revision of every note into a file that git can merge."""
    n_lines = open_workspace(workspace).notes().export_jsonl(file)
    if json:
        print_json({"file": file, "lines": n_lines})
        return
    out().print(f"[green]✓[/] {n_lines:,} revisions in {file}", soft_wrap=True)
    out().print("[dim]`*.jsonl merge=union` in .gitattributes lets git merge it without asking.[/]", soft_wrap=True)


@app.command("import")
def import_notes(file: FileArgument, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Add the notes of a file: all of them, or none if a line is bad."""
    done = open_workspace(workspace).notes().import_jsonl(file)
    if json:
        conflicts = [_record(note) for note in done.conflicts]
        print_json({"lines": done.n_lines, "new": done.n_new, "conflicts": conflicts})
        return
    out().print(f"[green]✓[/] {done.n_new:,} new of {done.n_lines:,} revisions", soft_wrap=True)
    if done.conflicts:
        out().print(
            f"[yellow]{len(done.conflicts)} notes have several versions[/] (`otoscope notes list --conflicts`); "
            "choose one in the browser app.",
            soft_wrap=True,
        )


@app.command("agreement")
def agreement(
    dictionary: DictionaryOption = None,
    blind: Annotated[bool, typer.Option("--blind", help="Only labels given before seeing those of others.")] = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Say how far the labels of different people agree, and list where they do not."""
    folder = open_workspace(workspace)
    fingerprint = _key(folder, f"{dictionary}:0").fingerprint if dictionary else None
    found = folder.notes().agreement(fingerprint=fingerprint, blind=blind)
    if json:
        differing = [{"feature": str(each.feature), "labels": each.labels} for each in found.disagreements]
        print_json({**vars(found), "disagreements": differing})
        return
    if not found.n_features:
        out().print("[dim]No feature has labels of two people yet.[/]")
        return
    people = ", ".join(f"{escape(name)} ({count})" for name, count in found.annotators.items())
    interval = f"{number(found.alpha_low)}–{number(found.alpha_high)}"
    out().print(f"{found.n_features} features with labels of two people or more; labels by {people}", soft_wrap=True)
    out().print(f"Krippendorff's alpha [bold]{number(found.alpha)}[/] (95 % {interval}); "
                f"{share(found.percent)} of the pairs agree", soft_wrap=True)  # fmt: skip
    if found.disagreements:
        listing = table("feature", "labels")
        for each in found.disagreements:
            labels = "; ".join(f"{escape(name)}: {escape(label)}" for name, label in each.labels.items())
            listing.add_row(f"[bold cyan]{each.feature}[/]", labels)
        out().print(listing)


def _key(folder: Workspace, feature: str) -> FeatureKey:
    """Return the feature of an atlas, or of a dictionary that has none yet."""
    from otoscope.atlas.notes import FeatureKey
    from otoscope.workspace import Address

    address = Address.parse(feature)
    if address.dictionary in folder.names("atlases"):
        return FeatureKey.of(folder.atlas(address.dictionary), address.index)
    dictionary = folder.dictionary(address.dictionary)
    dictionary.feature(address.index)
    return FeatureKey(dictionary.name, dictionary.fingerprint, address.index)


def _place(key: FeatureKey) -> tuple[str, int]:
    return key.fingerprint, key.feature


def _known_kind(kind: str | None) -> None:
    from otoscope.atlas.notes import KINDS
    from otoscope.errors import nearest

    if kind is not None and kind not in KINDS:
        known = f"; there are {', '.join(KINDS)}."
        raise InputError(f"{kind!r} is no kind of note{nearest(kind, KINDS) or known}")


def _evidence(text: str) -> Evidence:
    from otoscope.atlas.notes import Evidence

    moment = re.fullmatch(r"(.+)@([0-9.]+)-([0-9.]+)", text)
    if moment is None:
        return Evidence(reference=text)
    try:
        return Evidence(moment[1], float(moment[2]), float(moment[3]))
    except ValueError:
        raise InputError(f"{text!r} is not a moment; write CLIP@START-END in seconds, such as u1@0.5-1.2.") from None


def _shown(text: str, about: str | None) -> str:
    return f"{text}s with {about!r}" if about is not None else text


def _record(note: Note) -> dict[str, Any]:
    now = note.current.record()
    versions = [each.record() for each in note.versions] if note.in_conflict else []
    return {**now, "feature": str(note.feature), "conflict": versions}
