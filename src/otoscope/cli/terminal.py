"""Writing to the terminal: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPED_WIDTH = 140
_BLOCKS = "▁▂▃▄▅▆▇█"


def out() -> Console:
    """The console for results."""
    return _console(sys.stdout)


def err() -> Console:
    """The console for progress, notices and errors."""
    return _console(sys.stderr)


def _console(stream: Any) -> Console:
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Terminal(file=stream, highlight=False, width=None if stream.isatty() else PIPED_WIDTH)


def print_json(value: Any) -> None:
    """Print `value` as JSON, and nothing else, on standard output."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """Turn NumPy scalars, tables, paths and the like into JSON values; what is not finite becomes null."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "to_dict"):
        return [plain(row) for row in value.reset_index().to_dict("records")]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def escape(text: str) -> str:
    """Protect text that is not ours from being read as markup."""
    from rich.markup import escape as rich_escape

    return rich_escape(text)


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table; a column written `name>` is aligned to the right."""
    from rich import box
    from rich.table import Table

    result = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        right = column.endswith(">")
        result.add_column(column.rstrip(">"), justify="right" if right else "left", overflow="fold")
    return result


def number(value: Any, digits: int = 2) -> str:
    """Print a figure, or `–` where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)) or value != value:
        return "–"
    return f"{round(float(value), digits) + 0.0:,.{digits}f}"  # + 0.0: no minus before a zero


def share(value: Any) -> str:
    """Print a share as a percentage with two significant digits."""
    if value is None or value != value:
        return "–"
    percent = 100 * float(value)
    return f"{percent:.2g} %" if 0 < percent < 10 else f"{percent:.0f} %"


def duration(seconds: float) -> str:
    """Print seconds as people read them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def megabytes(n_bytes: float) -> str:
    """Print a size."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"


def sparkline(counts: list[float], width: int = 40) -> str:
    """Draw counts as a row of blocks on a logarithmic scale (rare values stay visible)."""
    if not counts:
        return ""
    per = max(1, math.ceil(len(counts) / width))
    sums = [sum(counts[i : i + per]) for i in range(0, len(counts), per)]
    logs = [math.log1p(max(0.0, total)) for total in sums]
    top = max(logs) or 1.0
    return "".join(_BLOCKS[round(value / top * (len(_BLOCKS) - 1))] if value else " " for value in logs)
