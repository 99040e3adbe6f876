"""Tables of a user's own in CSV, as editors and spreadsheets write them."""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ffreid.engine.dataset_files import clean, read_text, reason_of
from ffreid.errors import UserError


def read_csv(
    table: Path, required: Sequence[str], expected: str
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read a table: its column names in lower case, and its lines' numbers and values by column.

    The delimiter is a comma, a semicolon or a tab; empty lines are left out.

    Args:
        required: columns that the table has and whose values are not empty.
        expected: all columns, for errors.

    Raises:
        UserError: naming the column or line that is wrong.
    """
    try:
        text = re.sub(r"\Asep=.\r?\n", "", read_text(table))  # Excel's
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(io.StringIO(text, ""), delimiter=delimiter, skipinitialspace=True)
        header = [clean(name).lower() for name in next(reader, [])]
        lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"cannot read {table}: {reason_of(error)}", "save it as CSV in UTF-8"
        ) from error
    if missing := [name for name in required if name not in header]:
        raise UserError(
            f"{table} has no column {', '.join(missing)}: it begins with {first.strip()[:200]!r}, "
            f"read with the delimiter {delimiter!r}",
            f"name the columns in the first line, separated by , ; or tabs: {expected}",
        )
    if repeated := sorted(name for name, count in Counter(header).items() if count > 1):
        raise UserError(f"{table} has two columns {repeated[0]!r}", f"expected {expected}")
    if not lines:
        raise UserError(f"{table} has no lines below its header", f"write lines of {expected}")
    return header, [(line, _values(table, header, line, cells)) for line, cells in lines]


def _values(table: Path, header: Sequence[str], line: int, cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise UserError(
            f"{table}, line {line}: {len(cells)} values, expected {len(header)}",
            'write one value per column; quote values with a comma: "a,b"',
        )
    return {name: as_label(cell) for name, cell in zip(header, cells, strict=True)}


def as_label(text: str) -> str:
    """A label without what the eye does not see."""
    # An accent is one character or two, by the system that wrote it.
    return unicodedata.normalize("NFC", clean(text))
