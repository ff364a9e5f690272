"""`otoscope align`: when the words and phones of a corpus are spoken, from its sound and its texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otoscope.cli.corpus import KindOption, OnErrorOption, SplitOption, find_corpus
from otoscope.cli.options import DeviceOption, JsonOption, ModelOption, WorkspaceOption, open_model, workspace_if_any
from otoscope.cli.terminal import err, escape, out, print_json
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.alignment import Lexicon, PhoneModel
    from otoscope.audio import Corpus

FLAT = "flat"
SHOWN = 5


def run(
    corpus: Annotated[
        str,
        typer.Argument(help="A corpus of the workspace, a bundled one, a folder or a manifest.", metavar="CORPUS"),
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Where the aligned corpus goes (recordings stay).")
    ],
    words: Annotated[bool, typer.Option("--words", help="Make a words tier.")] = False,
    phones: Annotated[bool, typer.Option("--phones", help="Make a phones tier (needs a lexicon).")] = False,
    lexicon: Annotated[
        Path | None,
        typer.Option("--lexicon", metavar="FILE", help="Pronunciations: CMUdict, a Montreal .dict, or word phone …"),
    ] = None,
    phone_model: Annotated[
        str,
        typer.Option(
            "--phone-model",
            metavar="WHAT",
            help="A saved phone model, a corpus with phones to fit one on, or 'flat': from text and lexicon alone.",
        ),
    ] = "mini",
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", help="Refit the phone model on its own alignments N times.")
    ] = 3,
    save_phone_model: Annotated[
        Path | None, typer.Option("--save-phone-model", metavar="FOLDER", help="Keep the phone model used.")
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option("--heads", metavar="L.H,…", help="Decoder heads for words by attention, such as 2.1,3.0."),
    ] = None,
    unknown: Annotated[
        str,
        typer.Option("--unknown", metavar="refuse|any", help="Words without pronunciation: leave the clip, or any."),
    ] = "refuse",
    least_margin: Annotated[
        float | None,
        typer.Option("--least-margin", metavar="X", help="Leave out clips whose sound fits less well (see docs)."),
    ] = None,
    export: Annotated[
        str | None,
        typer.Option("--export", metavar="FORMAT", help="Also write FOLDER/FORMAT: TextGrid, JSON, CTM or Audacity."),
    ] = None,
    kind: KindOption = None,
    split: SplitOption = None,
    on_error: OnErrorOption = "raise",
    model: ModelOption = None,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Find when words and phones are spoken in recordings whose text is known.

    With a lexicon, by a phone model that is refitted to the recordings; without one, or with --model, by a Whisper
    model's attention (words only) or the letters or phones of a CTC model.

    Run the same command again after an interruption: it goes on where it stopped.
    """
    from otoscope.alignment import Lexicon, align_corpus
    from otoscope.audio.labels.formats import writable

    if phones and lexicon is None:
        raise InputError("Phones need a lexicon that says how words are pronounced: add --lexicon FILE.")
    if rounds < 0:
        raise InputError(f"--rounds {rounds} is not possible; give 0 or more.")
    if export is not None:
        writable(export)
        if (to / export).exists():
            raise InputError(f"{to / export} exists; move it away, or export later with otoscope corpus export-labels.")
    folder = workspace_if_any(workspace)
    clips = find_corpus(corpus, folder, kind, split, None, on_error)
    tiers = [name for name, wanted in (("words", words), ("phones", phones)) if wanted]
    known = None if lexicon is None else Lexicon.from_file(lexicon)
    if known is None or model is not None:
        aligned = align_corpus(
            clips,
            open_model(model, folder, device),
            lexicon=known,
            heads=_heads(heads),
            tiers=tiers or ["words"],
            least_margin=least_margin,
            to=to,
            progress=True,
        )
    else:
        fitted = _phone_model(phone_model, clips, known, rounds, unknown)
        if save_phone_model is not None:
            fitted.save(save_phone_model)
        aligned = align_corpus(
            clips,
            phone_model=fitted,
            lexicon=known,
            tiers=tiers or ["words", "phones"],
            unknown=unknown,
            least_margin=least_margin,
            to=to,
            progress=True,
        )
    exported = None if export is None else aligned.export_labels(to / export, export)
    _report(clips, aligned, to, exported, json)


def _heads(text: str | None) -> list[tuple[int, int]] | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d+\.\d+(,\d+\.\d+)*", text.replace(" ", "")):
        raise InputError(f"--heads {text!r} is not understood; write layer.head, such as --heads 2.1,3.0.")
    pairs = [part.split(".") for part in text.replace(" ", "").split(",")]
    return [(int(layer), int(head)) for layer, head in pairs]


def _phone_model(what: str, clips: Corpus, lexicon: Lexicon, rounds: int, unknown: str) -> PhoneModel:
    """Open or fit the phone model that `what` names, and refit it to the clips."""
    from otoscope.alignment import PhoneModel, adapt, fit_phone_model, flat_start
    from otoscope.alignment.fitting import LEAST_SOUND_S
    from otoscope.audio import corpus as open_corpus

    if what == FLAT:
        return flat_start(clips, lexicon, rounds=rounds, unknown=unknown, progress=True).model
    if (Path(what) / "phone_model.json").is_file():
        fitted = PhoneModel.load(what)
    else:
        labelled = open_corpus(what)
        spoken = [clip for clip in labelled if clip.tier("phones")]
        languages = {(clip.language or "").split("-")[0] for clip in clips if clip.language}
        same = [clip for clip in spoken if (clip.language or "").split("-")[0] in languages]
        fitted = fit_phone_model(same or spoken, progress=True)
    if rounds and clips.duration_s < LEAST_SOUND_S:
        err().print(f"[yellow]![/] {clips.duration_s:.1f} s of sound are too little to refit the phone model to")
        rounds = 0
    return adapt(fitted, clips, lexicon, rounds=rounds, unknown=unknown, progress=True).model if rounds else fitted


def _report(clips: Corpus, aligned: Corpus, to: Path, exported: Sequence[Path] | None, json: bool) -> None:
    from otoscope.alignment.corpus_alignment import MARGIN

    margins = sorted(float(clip.attributes[MARGIN]) for clip in aligned if MARGIN in clip.attributes)
    failed = [problem for problem in aligned.problems if problem not in clips.problems]
    median = margins[len(margins) // 2] if margins else None
    counts = {name: sum(len(clip.tier(name)) for clip in aligned) for name in aligned.tier_names}
    if json:
        print_json(
            {
                "folder": to,
                "clips": len(aligned),
                "aligned": len(margins),
                "median_margin": median,
                "intervals": counts,
                "problems": [{"clip_id": each.clip_id, "reason": each.reason} for each in failed],
                "exported": None if exported is None else len(exported),
            }
        )
        return
    found = ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "no tiers"
    mark = "[green]✓[/]" if margins else "[yellow]![/]"
    out().print(
        f"{mark} {len(margins):,} of {len(aligned):,} clips aligned: {found}, in {escape(str(to))}"
        + ("" if median is None else f" (median margin {median:.2f})"),
        soft_wrap=True,
    )
    if exported:
        out().print(f"[green]✓[/] {len(exported):,} label files in {escape(str(exported[0].parent))}", soft_wrap=True)
    for problem in failed[:SHOWN]:
        err().print(f"[yellow]![/] {escape(str(problem))}", soft_wrap=True)
    if len(failed) > SHOWN:
        err().print(f"[yellow]![/] … and {len(failed) - SHOWN:,} more clips (--json lists all)", soft_wrap=True)
