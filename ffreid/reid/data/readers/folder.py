"""People's own pictures: a table in CSV, or folders by split and identity.

Identities, cameras and clothes may be any text. They are numbered in sorted order, numbers by
value and before other texts.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffreid.engine.dataset_files import describe_folder
from ffreid.errors import UserError, flat
from ffreid.reid.data.readers.files import check_exist, first_few, list_images, subfolders
from ffreid.reid.data.readers.relabel import (
    NO_CLOTHES,
    RawRecord,
    check_disjoint,
    eval_split,
    natural_key,
    relabel,
)
from ffreid.reid.data.records import Source
from ffreid.reid.defaults import TREES
from ffreid.reid.retrieval.protocols import STANDARD, Protocol

TREE = TREES["folder"]
SPLITS = ("train", "query", "gallery")
TABLES = ("records.csv", "labels.csv")
"""Tables that are taken where there are several."""

REQUIRED, OPTIONAL = ("path", "identity", "split"), ("camera", "clothes")
COLUMNS = "path,identity,camera,clothes,split"
WITHOUT = ", without cameras"
NO_CAMERAS = (
    "no cameras: general, SC and CC are left out, as they drop what the query's own camera took; "
    f"rows '…{WITHOUT}' drop none"
)


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    path: str
    identity: str
    camera: str
    clothes: str
    split: str


def read(root: Path, *, skip_broken: bool = False) -> Source:
    """Read a folder of people's own.

    Where cameras are unknown, rows do without their rule; where outfits are, those that need them
    are left out and every identity trains as one outfit.

    Args:
        root: the folder.
        skip_broken: keep pictures of the table that are missing, and say how many.

    Raises:
        UserError: there is neither table nor split folders, a line or column is incomplete or
            wrong, a file is missing, a split empty, an identity in train and elsewhere, an outfit
            of two identities.
    """
    table = _table(root)
    rows, notes = _folder_rows(root) if table is None else _table_rows(table, skip_broken)
    source = table or root
    known = tuple(column for column in OPTIONAL if any(getattr(row, column) for row in rows))
    _check_splits(source, rows)
    if "clothes" in known:
        _check_owners(source, rows)
    if "camera" not in known:
        notes = (*notes, NO_CAMERAS)
    if "clothes" not in known:
        notes = (*notes, NO_CLOTHES)
    return _source(root, source, rows, known, notes)


def _source(
    root: Path, table: Path, rows: Sequence[_Row], known: tuple[str, ...], notes: tuple[str, ...]
) -> Source:
    cameras = _numbers([row.camera for row in rows])
    train, query, gallery = (
        [
            RawRecord((row.path,), row.identity, cameras[row.camera], row.clothes or row.identity)
            for row in rows
            if row.split == split
        ]
        for split in SPLITS
    )
    check_disjoint(
        train,
        {"query": query, "gallery": gallery},
        f"give everyone in {table} either to train or to query and gallery",
        identity_order=natural_key,
    )
    records, identities, clothes = relabel(
        train, identity_order=natural_key, clothes_order=natural_key
    )
    persons = _numbers([item.identity for item in (*query, *gallery)])
    return Source(
        name="folder",
        folder=root,
        video=False,
        train=records,
        identities=identities,
        clothes=clothes,
        test=eval_split(
            query, gallery, _protocols(known), number=persons.__getitem__, clothes_order=natural_key
        ),
        columns=known,
        notes=notes,
    )


def _numbers(texts: Sequence[str]) -> dict[str, int]:
    return {text: number for number, text in enumerate(sorted(set(texts), key=natural_key))}


def _protocols(known: Sequence[str]) -> tuple[Protocol, ...]:
    rows = STANDARD if "clothes" in known else STANDARD[:1]
    if "camera" in known:
        return rows
    return tuple(
        Protocol(
            name=row.name + WITHOUT,
            same=row.same,
            other=tuple(column for column in row.other if column != "camera"),
        )
        for row in rows
    )


def _table(root: Path) -> Path | None:
    """The table of the folder, if it has one."""
    if not root.is_dir():
        raise UserError(f"no dataset at {root}: {describe_folder(root)}", f"expected there: {TREE}")
    named = [root / name for name in TABLES if (root / name).is_file()]
    tables = named or sorted(root.glob("*.csv"))
    if len(tables) > 1 and not named:
        listed = ", ".join(path.name for path in tables)
        raise UserError(f"{root} has several tables: {listed}", f"call the one {TABLES[0]}")
    if tables:
        return tables[0]
    if not any((root / split).is_dir() for split in SPLITS):
        raise UserError(f"no dataset at {root}: {describe_folder(root)}", f"expected there: {TREE}")
    return None


def _folder_rows(root: Path) -> tuple[list[_Row], tuple[str, ...]]:
    rows = [
        _Row(0, path, path.split("/")[1], "", "", split)
        for split in SPLITS
        for path in list_images(root, split, TREE, nested=True)
    ]
    full = {row.path.rpartition("/")[0] for row in rows}
    homes = [f"{split}/{name}" for split in SPLITS for name in subfolders(root / split)]
    empty = [home for home in homes if home not in full]
    if not empty:
        return rows, ()
    return rows, (f"folders without pictures: {', '.join(empty)}",)


def _table_rows(table: Path, skip_broken: bool) -> tuple[list[_Row], tuple[str, ...]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"cannot read {table}: {flat(str(error))}", "save it as CSV, UTF-8"
        ) from error
    _check_header(table, header)
    if not lines:
        raise UserError(f"{table} has no line below its header", f"write lines of {COLUMNS}")
    rows = [_row(table, header, line, cells) for line, cells in lines]
    for column in OPTIONAL:
        _check_complete(table, column, rows)
    _check_single(table, rows)
    paths = [row.path for row in rows]
    absent = check_exist(table.parent, paths, table, skip_broken=skip_broken)
    notes = [f"missing: {first_few(absent, 'file')}"] if absent else []
    if unused := [name for name in header if name not in REQUIRED + OPTIONAL]:
        notes.append(f"columns not used: {', '.join(unused)}")
    return rows, tuple(notes)


def _check_header(table: Path, header: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise UserError(
            f"{table} has no column {', '.join(missing)}: its first line is {','.join(header)!r}",
            f"the first line names the columns, commas between: {COLUMNS}",
        )
    double = sorted({name for name in header if header.count(name) > 1})
    if double:
        raise UserError(f"{table} names the column {double[0]!r} twice", f"expected {COLUMNS}")


def _row(table: Path, header: Sequence[str], line: int, cells: Sequence[str]) -> _Row:
    if len(cells) != len(header):
        raise UserError(
            f"{table}, line {line}: {len(cells)} values, not {len(header)}",
            'write as many as the first line names; quote values with a comma: "a,b"',
        )
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    empty = [name for name in REQUIRED if not values[name]]
    if empty:
        raise UserError(f"{table}, line {line}: no {empty[0]}", f"give all of {','.join(REQUIRED)}")
    split = values["split"].lower()
    if split not in SPLITS:
        raise UserError(
            f"{table}, line {line}: the split {values['split']!r}", f"one of {', '.join(SPLITS)}"
        )
    return _Row(
        line,
        values["path"].removeprefix("./"),
        values["identity"],
        values.get("camera", ""),
        values.get("clothes", ""),
        split,
    )


def _check_complete(table: Path, column: str, rows: Sequence[_Row]) -> None:
    empty = [row.line for row in rows if not getattr(row, column)]
    if empty and len(empty) < len(rows):
        raise UserError(
            f"{table}, line {empty[0]}: no {column}, as in {len(empty)} of {len(rows)} lines",
            f"give the {column} in every line or in none",
        )


def _check_single(table: Path, rows: Sequence[_Row]) -> None:
    # A query that is its own match in the gallery would be found at once.
    apart = any(row.camera for row in rows)
    first: dict[tuple[str, str], _Row] = {}
    for row in rows:
        other = first.setdefault((row.path, row.split if apart else ""), row)
        if other is not row:
            raise UserError(
                f"{table}: lines {other.line} and {row.line} are both {row.path}",
                "list each picture once",
            )


def _check_splits(source: Path, rows: Sequence[_Row]) -> None:
    present = {row.split for row in rows}
    missing = [split for split in SPLITS if split not in present]
    if missing:
        raise UserError(
            f"{source} has nothing in the split {missing[0]}",
            "train, query and gallery each need pictures",
        )


def _check_owners(source: Path, rows: Sequence[_Row]) -> None:
    owners: dict[str, _Row] = {}
    for row in rows:
        owner = owners.setdefault(row.clothes, row)
        if owner.identity != row.identity:
            raise UserError(
                f"{source}: the clothes {row.clothes!r} are worn by {owner.identity!r} "
                f"(line {owner.line}) and {row.identity!r} (line {row.line})",
                f"an outfit has one owner: write {row.identity}_{row.clothes}",
            )
