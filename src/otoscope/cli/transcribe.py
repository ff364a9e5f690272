"""`otoscope transcribe`: files in, text out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    SeedOption,
    WorkspaceOption,
    open_clip,
    open_model,
    workspace_if_any,
)
from otoscope.cli.terminal import escape, number, out, print_json
from otoscope.errors import InputError, nearest

if TYPE_CHECKING:
    from otoscope.models import Transcript

_FORMATS = ("txt", "srt", "vtt", "tsv", "json")


def run(
    files: Annotated[list[str], typer.Argument(help="Recordings, or ids of clips.", metavar="FILE…")],
    model: ModelOption = None,
    workspace: WorkspaceOption = None,
    language: Annotated[
        str | None,
        typer.Option("--language", metavar="CODE", help="Language of the speech, e.g. en (default: detected)."),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="TASK", help="transcribe (default), or translate to English.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="Text said before: names, spellings, style.")
    ] = None,
    timestamps: Annotated[
        bool,
        typer.Option("--timestamps", help="Let the model mark segments; long recordings are read along them."),
    ] = False,
    word_times: Annotated[bool, typer.Option("--word-times", help="Find when each word is spoken.")] = False,
    beam_size: Annotated[
        int | None, typer.Option("--beam-size", metavar="N", help="Hypotheses kept side by side (default: greedy).")
    ] = None,
    temperature: Annotated[
        str,
        typer.Option(
            "--temperature",
            metavar="T[,T…]",
            help="0: the likeliest text; a list is tried in turn while results look bad.",
        ),
    ] = "0",
    best_of: Annotated[
        int | None, typer.Option("--best-of", metavar="N", help="Samples drawn at temperatures above 0.")
    ] = None,
    no_condition: Annotated[
        bool, typer.Option("--no-condition", help="With --timestamps: do not feed what was written before.")
    ] = False,
    seed: SeedOption = 0,
    format: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help=f"{', '.join(_FORMATS)} (default: text on one line)."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="With --format: write a file for each recording there."),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Transcribe recordings of any length.

    Reads wav, flac, ogg, opus, mp3, m4a, mp4 and webm. Subtitles (srt, vtt) and tables (tsv) show the model's segments,
    with --word-times each word.
    """
    if format is not None and format not in _FORMATS:
        raise InputError(
            f"There is no format {format!r}{nearest(format, _FORMATS) or '.'} The formats are {', '.join(_FORMATS)}."
        )
    if to is not None and format is None:
        raise InputError(f"--to {to} needs a --format ({', '.join(_FORMATS)}).")
    if to is not None and len({Path(file).stem for file in files}) < len(files):
        raise InputError(f"Two of the recordings have the same name, so that their files in {to} would be one.")
    choices: dict[str, Any] = {
        "language": language,
        "task": task,
        "initial_prompt": prompt,
        "timestamps": timestamps or None,
        "word_times": word_times or None,
        "beam_size": beam_size,
        "temperature": _temperatures(temperature),
        "best_of": best_of,
        "condition_on_previous_text": False if no_condition else None,
        "seed": seed or None,
    }
    choices = {name: value for name, value in choices.items() if value is not None}
    folder = workspace_if_any(workspace)
    clips = [open_clip(file, folder) for file in files]
    speech_model = open_model(model, folder, device, dtype)
    rows: list[dict[str, Any]] = []
    for file, clip in zip(files, clips, strict=True):
        transcript = speech_model.transcribe(clip, **choices)
        if json or format == "json":
            row = _row(file, clip.duration_s, transcript)
            if to is not None:
                _write(to, file, "json", _as_json(row))
            else:
                rows.append(row)
        elif format is not None:
            _put(to, file, format, transcript)
        else:
            _show(file, transcript, alone=len(files) == 1)
    if rows:
        print_json(rows)


def _temperatures(text: str) -> float | tuple[float, ...] | None:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--temperature takes numbers, e.g. 0 or 0,0.2,0.4; not {text!r}.") from None
    if values == (0.0,):
        return None
    return values if len(values) > 1 else values[0]


def _row(file: str, duration_s: float, transcript: Transcript) -> dict[str, Any]:
    return {"uri": file, "duration_s": duration_s} | {
        name: value for name, value in transcript.to_dict().items() if name != "uri"
    }


def _as_json(row: dict[str, Any]) -> str:
    from json import dumps

    from otoscope.cli.terminal import plain

    return dumps(plain(row), indent=2, ensure_ascii=False) + "\n"


def _put(to: Path | None, file: str, format: str, transcript: Transcript) -> None:
    """Write a transcript to its file, or to standard output."""
    from otoscope.cli.subtitles import WRITERS

    text = WRITERS[format](transcript)
    if to is None:
        sys.stdout.write(text)  # as it is: a table keeps its tabs
    else:
        _write(to, file, format, text)


def _write(to: Path, file: str, format: str, text: str) -> None:
    to.mkdir(parents=True, exist_ok=True)
    path = to / f"{Path(file).stem}.{format}"
    path.write_text(text, encoding="utf-8")
    out().print(escape(str(path)), soft_wrap=True)


def _show(file: str, transcript: Transcript, alone: bool) -> None:
    text = escape(transcript.text.strip()) or f"[dim](no speech: {number(transcript.no_speech_prob)})[/]"
    out().print(text if alone else f"[cyan]{file}[/]  {text}", soft_wrap=True)
