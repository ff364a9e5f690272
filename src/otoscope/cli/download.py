"""`otoscope download`: list public corpora and fetch one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otoscope.cli.options import JsonOption
from otoscope.cli.terminal import escape, out, print_json, table


def run(
    name: Annotated[
        str | None, typer.Argument(help="A corpus of the list (no name: show the list).", metavar="[NAME]")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="Where to put it (default: ./NAME).", show_default=False),
    ] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Do not delete the archives.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Fetch once more what is finished, to restore missing files.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Download a public corpus: checked, resumable, never touching files that exist."""
    from otoscope.audio.downloads import download, source

    if name is None:
        _list(json)
        return
    row = source(name)
    if row.by_hand is None and not json:
        out().print(f"[bold]{escape(row.title)}[/]", soft_wrap=True)
        out().print(
            f"licence: [bold]{escape(row.licence)}[/] ({row.homepage})\n"
            f"{_size(row.size_bytes)} to download, about {_size(row.unpacked_bytes)} on disk, "
            f"into {to or row.name}",
            soft_wrap=True,
        )
        if row.note:
            out().print(f"[dim]{escape(row.note)}[/]", soft_wrap=True)
    folder = download(name, to, progress=not json, keep_archives=keep_archives, again=again)
    if json:
        print_json({"name": row.name, "path": str(folder), "licence": row.licence, "homepage": row.homepage})
    else:
        out().print(f"[green]✓[/] {folder}\n[dim]next:[/] otoscope corpus show {folder}", soft_wrap=True)


def _list(json: bool) -> None:
    from otoscope.audio.downloads import SOURCES

    if json:
        print_json(
            [
                {
                    "name": row.name,
                    "title": row.title,
                    "licence": row.licence,
                    "homepage": row.homepage,
                    "size_bytes": row.size_bytes,
                    "checksums": [file.checksum for file in row.files],
                    "by_hand": row.by_hand,
                    "note": row.note,
                }
                for row in SOURCES
            ]
        )
        return
    listing = table("name", "what", "size>", "licence")
    for row in SOURCES:
        size = "[dim]by hand[/]" if row.by_hand else _size(row.size_bytes)
        listing.add_row(f"[bold]{row.name}[/]", escape(row.title), size, escape(row.licence))
    out().print(listing)
    out().print("[dim]otoscope download NAME --to FOLDER[/]")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
