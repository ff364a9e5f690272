"""`otoscope demo`: the whole pipeline on the bundled corpus or your recordings, then the browser app."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    SeedOption,
    WorkspaceOption,
)
from otoscope.cli.serve import serve_until_stopped
from otoscope.cli.terminal import duration, err, number, out, print_json, share, table

if TYPE_CHECKING:
    from otoscope.audio import Corpus
    from otoscope.models import SpeechModel
    from otoscope.workspace import Plan, StageOutcome, Summary, Workspace


def run(
    corpus: Annotated[
        str,
        typer.Option("--corpus", "-c", metavar="CORPUS", help="Bundled, or a folder or manifest of recordings."),
    ] = "mini",
    model: ModelOption = None,
    workspace: WorkspaceOption = None,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Open the browser app at the end.")] = True,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", help="Port to listen at; 0 takes any free one.")
    ] = 8080,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser window.")] = True,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Do it all once: harvest, train, atlas; then open the app.

    Finished stages are reused; after Ctrl-C the same command goes on where it stopped.
    """
    if serve:
        from otoscope.server.listen import bind

        bind(host, port).close()
    with err().status("Loading the model") if sys.stderr.isatty() else contextlib.nullcontext():
        from otoscope.audio import corpus as open_corpus
        from otoscope.workspace import Workspace, run_pipeline

        clips = open_corpus(corpus)
        folder = Workspace.open(workspace, create=True, model=model)
        plan = make_plan(folder.model(device=device, dtype=dtype), clips, seed)
    summary = run_pipeline(folder, plan, progress=True, source=clips, notice=_announce)
    if json:
        print_json(summary.to_json())
    else:
        show(summary, folder)
    if serve:
        with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
            serve_until_stopped(folder, host, port, open_browser)


def make_plan(model: SpeechModel, clips: Corpus, seed: int) -> Plan:
    """What the demo makes of a corpus."""
    from otoscope.workspace import as_name, default_plan

    return default_plan(model, clips.name, as_name(clips.name), seed)


def _announce(outcome: StageOutcome) -> None:
    what = f"{outcome.kind} {outcome.name}"
    if outcome.reused:
        err().print(f"[green]✓[/] {what} [dim]reused ({duration(outcome.seconds)})[/]")
        return
    why = f" [yellow]{outcome.state}: {outcome.reason}[/]" if outcome.reason else ""
    err().print(f"[green]✓[/] {what} [dim]{duration(outcome.seconds)}[/]{why}", soft_wrap=True)


def show(summary: Summary, folder: Workspace) -> None:
    """Print what the pipeline made, for people."""
    console = out()
    counts = summary.counts
    console.print()
    console.print(
        f"[bold]{summary.corpus}[/]: {counts['clips']:,} clips, {duration(counts['audio_seconds'])} "
        f"of sound, {counts['frames']:,} frames, through [bold]{summary.model}[/]"
    )
    stages = table("stage", "name", "time>", "")
    for stage in summary.stages:
        note = "reused" if stage.reused else stage.reason
        stages.add_row(stage.kind, stage.name, duration(stage.seconds), f"[dim]{note}[/]")
    stages.add_section()
    stages.add_row("[bold]all[/]", "", f"[bold]{duration(summary.seconds['total'])}[/]", "")
    console.print(stages)
    for name, figures in summary.dictionaries.items():
        console.print(f"[bold]{name}[/] {figures['n_features']:,} features of {figures['site']}{_quality(figures)}")
    console.print(
        f"\n{summary.phones_found} of {summary.phones_total} phones have a feature with F1 ≥ 0.7. The best features:"
        if summary.phones_total
        else "\nThe best features:"
    )
    best = table("label", "kind", "feature", "F1>")
    for row in _highlights(summary):
        best.add_row(row["label"], row["kind"], f"[cyan]{row['feature']}[/]", number(row["f1"]))
    console.print(best if best.row_count else "[dim]none: the corpus has no labels (no tiers, no sound classes)[/]")
    _what_next(summary, folder)


def _quality(figures: dict[str, Any]) -> str:
    if "fvu" not in figures:
        return ""
    held_out = figures["held_out"]
    return (
        f": FVU {number(figures['fvu'], 3)}, L0 {number(figures['l0'], 1)}, "
        f"{share(figures['dead_share'])} dead, on {held_out['clips']} clips of held-out {held_out['by']}"
    )


def _highlights(summary: Summary) -> list[dict[str, Any]]:
    """The best few phones, words and sounds, and the best one of every other kind of label."""
    counts = {"phone": 8, "word": 4, "sound_class": 4}
    kinds = sorted({row["kind"] for row in summary.best}, key=lambda kind: (kind not in counts, kind))
    return [
        row
        for kind in kinds
        for row in [r for r in summary.best if r["kind"] == kind and r["feature"]][: counts.get(kind, 1)]
    ]


def _what_next(summary: Summary, folder: Workspace) -> None:
    option = "" if summary.workspace == "otoscope-workspace" else f" --workspace {summary.workspace}"
    lines = []
    row = next(iter(_highlights(summary)), None)
    if row is not None:
        atlas, index = row["feature"].split(":")
        moments = folder.atlas(atlas)[int(index)].examples(kind="top", top=1)
        clip = moments[0].clip_id if moments else "FILE"
        lines.append((f"otoscope search {row['label']}{option}", "features that detect it"))
        lines.append((f"otoscope features {row['feature']}{option}", "what this feature responds to"))
        lines.append((f"otoscope edit {clip} --feature {row['feature']} --scale 0{option}", "listen without it"))
    lines.append((f"otoscope serve{option}", "see and hear it all in the browser"))
    out().print("Try next:")
    width = max(len(command) for command, _ in lines)
    for command, meaning in lines:
        out().print(f"  [bold]{command:<{width}}[/]  [dim]{meaning}[/]", soft_wrap=True)
