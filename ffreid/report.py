"""Rows to tables on stdout, and the same results to JSON files."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

Cell = str | int | float | None
PLAIN_EVERY = 10.0
"""Seconds between lines of progress where there is no terminal."""


def log(text: str) -> None:
    """Print a line for people on stderr; stdout is for results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class ProgressBar:
    """Progress of long work on stderr: a live bar on a terminal, a line every so often otherwise.

    Args:
        title: what is being done.
        total: units of work, where known from the start.
        show: False keeps silent (processes other than the first).
    """

    def __init__(self, title: str, total: int | None = None, *, show: bool = True) -> None:
        self.title, self.total, self.show = title, total, show
        self.done = 0
        self.started = self.last = time.monotonic()
        self.live: Progress | None = None
        if show and sys.stderr.isatty():
            self.live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say that `done` units of `total` are done."""
        self.done, self.total = done, total if total is not None else self.total
        if self.live is not None:
            if not self.live.tasks:
                self.live.start()
                self.live.add_task(self.title, total=self.total, note=note)
            task = self.live.tasks[0].id
            self.live.update(task, completed=done, total=self.total, note=note)
        elif self.show and time.monotonic() - self.last >= PLAIN_EVERY:
            self.last = time.monotonic()
            share = f"{done}/{self.total}" if self.total else str(done)
            log(f"{self.title}: {share}, {self.last - self.started:.0f} s {note}".rstrip())

    def advance(self, count: int = 1, note: str = "") -> None:
        """Say that `count` more units are done."""
        self.update(self.done + count, note=note)


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, digits: int = 2
) -> None:
    """Print a table on stdout; floats with `digits` decimals, None as a dash.

    The console is made as wide as the table needs: rich would cut numbers silently otherwise.
    """
    cells = [[_text(value, digits) for value in row] for row in rows]
    table = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(columns):
        numeric = any(isinstance(row[index], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in cells:
        table.add_row(*row)
    widths = [
        max([cell_len(name), *(cell_len(row[i]) for row in cells)])
        for i, name in enumerate(columns)
    ]
    width = max(sum(widths) + 3 * len(widths) + 2, cell_len(title) + 2, 80)
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False)
    # Not the table's own title, which is broken at the table's width.
    console.print(title, style="italic")
    console.print(table)


def _text(value: Cell, digits: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.{digits}f}"
    return str(value)
