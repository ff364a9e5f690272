"""One progress bar for every long job: what is done, how fast, and how long it will still take."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol


class Advance(Protocol):
    """Says that so many units more are done; `text` stands below the bar from now on."""

    def __call__(self, n: int, text: str = "") -> None:
        """Take note of it."""


ProgressReport = Callable[[str, int, int], None]
"""Called as `report(stage, done, total)`; raise from it to stop the job."""


@contextlib.contextmanager
def track(stage: str, total: int, progress: bool | ProgressReport, *, unit: str, done: int = 0) -> Iterator[Advance]:
    """Yield `advance(n)` for a job of `total` units, of which `done` were finished by an earlier run.

    `progress` is True for a bar on standard error, False for silence, or a function to report to.
    """
    if progress is False:
        yield lambda n, text="": None
    elif progress is True:
        with _bar(stage, total, unit, done) as advance:
            yield advance
    else:
        report, count = progress, done

        def advance_report(n: int, text: str = "") -> None:
            nonlocal count
            count += n
            report(stage, count, total)

        report(stage, done, total)
        yield advance_report


@contextlib.contextmanager
def _bar(stage: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    from rich.console import Console, RenderableType
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f} {unit}/s", style="cyan")

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )

    class Bar(Progress):
        text = ""

        def get_renderables(self) -> Iterable[RenderableType]:
            yield from super().get_renderables()
            if self.text:
                yield Text(self.text, style="dim", no_wrap=True, overflow="ellipsis")

    with Bar(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task(stage, total=total, completed=done)

        def advance_bar(n: int, text: str = "") -> None:
            bar.text = text
            bar.advance(task, n)

        yield advance_bar
