"""`otoscope export`: write an atlas for other programs, or as a folder of web pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import JsonOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import err, escape, megabytes, out, print_json
from otoscope.errors import InputError, nearest

if TYPE_CHECKING:
    from otoscope.workspace import Workspace


def run(
    atlas: Annotated[str, typer.Argument(help="An atlas of the workspace.", metavar="ATLAS")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The folder to write; it must not exist.")],
    format: Annotated[
        str, typer.Option("--format", "-f", metavar="FORMAT", help="site, parquet, neuronpedia or delphi.")
    ] = "site",
    features: Annotated[
        str | None,
        typer.Option("--features", metavar="WHICH", help="site: all, labelled, or the best N (default: labelled)."),
    ] = None,
    audio: Annotated[
        str | None,
        typer.Option("--audio", metavar="HOW", help="site: opus, wav (larger, plays everywhere) or none."),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", metavar="TEXT", help="site: whose sound it is (default: the corpus says)."),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Write an atlas for other programs, or as web pages that need no server of ours.

    site: pages with search, pictures and sound, for any web host. parquet: tables and postings, for DuckDB, pandas, R.
    neuronpedia: its dashboards. delphi: the cache that its explainers and scorers read.
    """
    if format not in FORMATS:
        raise InputError(f"There is no format {format!r}{nearest(format, FORMATS) or '; ' + ', '.join(FORMATS)}")
    given = {"features": features, "audio": audio, "licence": licence}
    if format != "site" and (names := [f"--{name}" for name, value in given.items() if value is not None]):
        raise InputError(f"{names[0]} belongs to --format site, not {format}.")
    if to.exists():
        raise InputError(f"{to} exists; give a folder that does not.")
    place = FORMATS[format](open_workspace(workspace), atlas, to, **given)
    files = [path for path in to.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    if json:
        print_json({"folder": place, "format": format, "files": len(files), "bytes": size})
        return
    out().print(
        f"[green]✓[/] {escape(atlas)} as {format} in {escape(str(place))}: {len(files):,} files, {megabytes(size)}",
        soft_wrap=True,
    )
    if format == "site":
        out().print(f"  look at it with: python -m http.server --directory {escape(str(place))}", soft_wrap=True)


def _site(
    workspace: Workspace, name: str, to: Path, features: str | None, audio: str | None, licence: str | None
) -> Path:
    from otoscope.atlas.exports.site import export_site
    from otoscope.models.loading.checkpoint import describe_checkpoint

    told = workspace.interpretations(name)
    for problem in () if told is None else told.problems:
        err().print(f"[yellow]{escape(problem)}[/]", soft_wrap=True)
    return export_site(
        workspace.atlas(name),
        workspace.corpus_of(name),
        to,
        features=features or "labelled",
        audio=audio or "opus",
        licence=licence or "",
        n_mels=describe_checkpoint(workspace.model_name).dims.n_mels or None,
        interpretations=told,
        progress=True,
    )


def _parquet(workspace: Workspace, name: str, to: Path, **_: Any) -> Path:
    from otoscope.atlas.exports.parquet import export_parquet

    return export_parquet(workspace.atlas(name), to)


def _neuronpedia(workspace: Workspace, name: str, to: Path, **_: Any) -> Path:
    from otoscope.atlas.exports.neuronpedia import export_neuronpedia

    opened = workspace.atlas(name), workspace.dictionary_of(name), workspace.corpus_of(name)
    return export_neuronpedia(*opened, to, progress=True)


def _delphi(workspace: Workspace, name: str, to: Path, **_: Any) -> Path:
    from otoscope.atlas.exports.delphi import export_delphi

    return export_delphi(workspace.atlas(name), workspace.corpus_of(name), to, progress=True)


FORMATS: dict[str, Callable[..., Path]] = {
    "site": _site,
    "parquet": _parquet,
    "neuronpedia": _neuronpedia,
    "delphi": _delphi,
}
"""What writes each format."""
