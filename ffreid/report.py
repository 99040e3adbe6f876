"""Rows to tables on stdout, and the same results to JSON files."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from ffreid.errors import UserError

Cell = str | int | float | None


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, digits: int = 2
) -> None:
    """Print a table on stdout; floats with `digits` decimals, None as a dash.

    The console is made as wide as the table needs: rich would cut numbers silently otherwise.
    """
    cells = [[_text(value, digits) for value in row] for row in rows]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
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
    Console(file=sys.stdout, width=width, highlight=False, markup=False).print(table)


def write_json(path: Path, payload: Mapping[str, Any]) -> None:
    """Write `payload` unrounded; NaN and infinity become null, so that every parser reads it.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(plain(payload), indent=1) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}", "choose another file with --json FILE"
        ) from error


def plain(value: Any) -> Any:
    """Give `value` as plain JSON data: numpy and torch scalars and arrays become Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def _text(value: Cell, digits: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.{digits}f}"
    return str(value)
