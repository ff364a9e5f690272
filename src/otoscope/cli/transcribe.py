"""`otoscope transcribe`: files in, text out."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from otoscope.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    WorkspaceOption,
    open_clip,
    open_model,
    workspace_if_any,
)
from otoscope.cli.terminal import escape, number, out, print_json


def run(
    files: Annotated[list[str], typer.Argument(help="Recordings, or ids of clips.", metavar="FILE…")],
    model: ModelOption = None,
    workspace: WorkspaceOption = None,
    language: Annotated[
        str | None,
        typer.Option("--language", metavar="CODE", help="Language of the speech, e.g. en (default: detected)."),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Transcribe recordings of any length.

    Reads wav, flac, ogg, opus, mp3, m4a, mp4 and webm.
    """
    folder = workspace_if_any(workspace)
    clips = [open_clip(file, folder) for file in files]
    speech_model = open_model(model, folder, device, dtype)
    rows: list[dict[str, Any]] = []
    for file, clip in zip(files, clips, strict=True):
        transcript = speech_model.transcribe(clip, language=language)
        if json:
            rows.append(
                {
                    "uri": file,
                    "clip_id": clip.clip_id,
                    "text": transcript.text,
                    "language": transcript.language,
                    "duration_s": clip.duration_s,
                    "no_speech_prob": transcript.no_speech_prob,
                    "avg_log_prob": transcript.avg_log_prob,
                    "tokens": [
                        {"id": token.id, "text": token.text, "log_prob": token.log_prob} for token in transcript.tokens
                    ],
                }
            )
        else:
            _show(file, transcript, alone=len(files) == 1)
    if json:
        print_json(rows)


def _show(file: str, transcript: Any, alone: bool) -> None:
    text = escape(transcript.text.strip()) or f"[dim](no speech: {number(transcript.no_speech_prob)})[/]"
    out().print(text if alone else f"[cyan]{file}[/]  {text}", soft_wrap=True)
