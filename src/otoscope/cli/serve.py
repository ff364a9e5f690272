"""`otoscope serve`: the browser app over a workspace."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from otoscope.cli.options import WorkspaceOption, open_workspace

if TYPE_CHECKING:
    from otoscope.workspace import Workspace


def run(
    workspace: WorkspaceOption = None,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", help="Port to listen at; 0 takes any free one.")
    ] = 8080,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser window.")] = True,
) -> None:
    """Open the browser app: see, hear and edit features."""
    serve_until_stopped(open_workspace(workspace), host, port, open_browser)


def serve_until_stopped(folder: Workspace, host: str, port: int, open_browser: bool) -> None:
    """Serve until Ctrl-C, which is how a server is meant to end."""
    from otoscope.server import serve

    with contextlib.suppress(KeyboardInterrupt):
        serve(folder, host, port, open_browser)
