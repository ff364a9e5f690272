"""`otoscope sql`: ask an atlas in SQL."""

from __future__ import annotations

import csv as csv_module
import math
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import JsonOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import err, escape, out, print_json, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas.search.sql import Answer


def run(
    atlas: Annotated[str, typer.Argument(help="An atlas of the workspace.", metavar="ATLAS")],
    query: Annotated[str, typer.Argument(help="One SELECT, in quotes.", metavar="SELECT")],
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Rows to print at most.", min=1)] = 1000,
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="Seconds to wait at most.", min=0.1)] = 60.0,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values on standard output.")] = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Ask an atlas in SQL: tables features, labels, classes, clips and postings.

    `otoscope sql sae-2 "DESCRIBE features"` lists the columns of a table. Nothing can be changed.
    """
    if csv and json:
        raise InputError("Choose --csv or --json, not both.")
    opened = open_workspace(workspace).atlas(atlas)
    from otoscope.atlas.search.sql import run_sql

    answer = run_sql(opened, query, max_rows=limit, longest_s=timeout)
    if json:
        print_json([dict(zip(answer.columns, row, strict=True)) for row in answer.rows])
    elif csv:
        _print_csv(answer)
    else:
        listing = table(*map(escape, answer.columns))
        for row in answer.rows:
            listing.add_row(*(escape(_shown(value)) for value in row))
        out().print(listing)
    if not answer.whole:
        err().print(f"There are more than {limit:,} rows; --limit shows more.", soft_wrap=True)


def _print_csv(answer: Answer) -> None:
    writer = csv_module.writer(sys.stdout, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(["" if value is None else value for value in row] for row in answer.rows)
    sys.stdout.flush()


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else "–"
    return str(value)
