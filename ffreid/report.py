"""Messages on stderr, tables of results on stdout."""

import sys
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from ffreid.errors import printable, shortened

Cell = str | int | float | None


def log(*lines: str) -> None:
    """Print messages on stderr, each on one line; stdout is for results."""
    sys.stderr.write("".join(f"{shortened(printable(line))}\n" for line in lines))
    sys.stderr.flush()


def show_lines(*lines: str) -> None:
    """Print results that are no table on stdout, each on one line."""
    sys.stdout.write("".join(f"{shortened(printable(line))}\n" for line in lines))
    sys.stdout.flush()


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, digits: int = 2
) -> None:
    """Print a table on stdout; floats with `digits` decimals, None and NaN as a dash.

    The console is made as wide as the table needs: rich would cut numbers silently otherwise.
    """
    title, columns = printable(title), [printable(name) for name in columns]
    cells = [[shortened(printable(as_text(value, digits)), 500) for value in row] for row in rows]
    table = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(columns):
        numeric = any(isinstance(row[index], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in cells:
        table.add_row(*row)
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    width = max(sum(widths) + 3 * len(widths) + 2, cell_len(title) + 2, 80)
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
    # Not the table's own title, which is broken at the table's width.
    console.print(title, style="italic")
    console.print(table)


def as_text(value: Cell, digits: int = 2) -> str:
    """A cell as it is shown: None and NaN are a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.{digits}f}"
    return str(value)
