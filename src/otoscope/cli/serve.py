"""`otoscope serve`: the browser app over a workspace."""

from __future__ import annotations

from typing import Annotated

import typer

from otoscope.cli.options import WorkspaceOption, open_workspace


def run(
    workspace: WorkspaceOption = None,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", help="Port to listen at; 0 takes any free one.")
    ] = 8080,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser window.")] = True,
) -> None:
    """Open the browser app: see, hear and edit features."""
    folder = open_workspace(workspace)
    from otoscope.server import serve

    serve(folder, host, port, open_browser)
