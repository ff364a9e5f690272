"""The options that every verb shares, and how they find the model, the workspace and a clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.audio import Clip
    from otoscope.models import SpeechModel
    from otoscope.workspace import Workspace


def _option(*names: str, metavar: str, help: str) -> object:
    return typer.Option(*names, metavar=metavar, help=help, show_default=False)


ModelOption = Annotated[
    str | None,
    _option("--model", "-m", metavar="MODEL", help="Name, folder or .pt (default: the workspace's model, or pocket)."),
]
WorkspaceOption = Annotated[
    Path | None,
    _option(
        "--workspace",
        "-w",
        metavar="FOLDER",
        help="Workspace (default: $OTOSCOPE_WORKSPACE or ./otoscope-workspace).",
    ),
]
CorpusOption = Annotated[
    str | None,
    _option("--corpus", "-c", metavar="CORPUS", help="In the workspace, bundled, a folder or a manifest."),
]
DictionaryOption = Annotated[
    str | None, _option("--dictionary", "-d", metavar="NAME", help="A dictionary of the workspace.")
]
SitesOption = Annotated[
    list[str] | None,
    _option("--site", "-s", metavar="SITE", help="A site (`otoscope sites` lists them); repeatable."),
]
DeviceOption = Annotated[
    str | None, _option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps… (default: cpu).")
]
DtypeOption = Annotated[
    str | None,
    _option("--dtype", metavar="DTYPE", help="Arithmetic: float32 or bfloat16 (default: float32)."),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything random.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, for machines.")]


def open_workspace(path: Path | None) -> Workspace:
    """Open an existing workspace."""
    from otoscope.workspace import Workspace

    return Workspace.open(path)


def workspace_if_any(path: Path | None) -> Workspace | None:
    """Open the workspace; None where there is none and none was asked for by name."""
    from otoscope.workspace import Workspace

    try:
        return Workspace.open(path)
    except InputError:
        if path is not None:
            raise
        return None


def open_model(
    model: str | None, workspace: Workspace | None, device: str | None = None, dtype: str | None = None
) -> SpeechModel:
    """Load `model`, else the workspace's model, else pocket."""
    if model is None and workspace is not None:
        return workspace.model(device=device, dtype=dtype)
    from otoscope.models import load_model

    return load_model(model or "pocket", device=device, dtype=dtype)


def open_clip(text: str, workspace: Workspace | None) -> Clip:
    """Return a clip by file, by id in the workspace's corpora, or by id in the bundled corpus.

    Raises:
        InputError: neither a file nor a known id (with the nearest ids).
    """
    from otoscope.audio import Clip, corpus

    if Path(text).is_file() or Path(text).suffix or "/" in text:
        if workspace is None or Path(text).is_file():
            return Clip.from_file(text)
        try:
            return workspace.clip(text)
        except InputError:
            return Clip.from_file(text)
    if workspace is not None and workspace.names("corpora"):
        return workspace.clip(text)
    return corpus("mini")[text]
