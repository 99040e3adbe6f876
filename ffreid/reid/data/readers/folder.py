"""A user's own images: a table in CSV, or folders by split and identity.

Identities, cameras and clothes may be any text. They are numbered in sorted order, numbers by
value and before other text.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ffreid.engine.dataset_files import describe_folder
from ffreid.errors import UserError, flat
from ffreid.reid.data.readers.files import check_exist, first_few, list_images, subfolders
from ffreid.reid.data.readers.relabel import (
    NO_CLOTHES,
    RawRecord,
    eval_split,
    make_source,
    natural_key,
)
from ffreid.reid.data.records import Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import STANDARD, Protocol

TREE = DATASETS["folder"].tree
SPLITS = ("train", "query", "gallery")
TABLES = ("records.csv", "labels.csv")
"""Preferred names, if there are several tables."""

REQUIRED, OPTIONAL = ("path", "identity", "split"), ("camera", "clothes")
COLUMNS = "path,identity,camera,clothes,split"
WITHOUT_CAMERAS = ", without cameras"
NO_CAMERAS = (
    "no camera labels: general, SC and CC, which exclude the query's camera, are not evaluated; "
    f"rows '…{WITHOUT_CAMERAS}' exclude no images"
)


class _Row(NamedTuple):
    line: int
    path: str
    identity: str
    camera: str
    clothes: str
    split: str


def read(root: Path, *, skip_broken: bool = False) -> Source:
    """Read a folder of the user's own.

    Without cameras, protocols do not exclude any; without clothes, protocols that need them are
    not evaluated and each identity has one clothes label in training.
    """
    table = _find_table(root)
    rows, notes = _read_folders(root) if table is None else _read_table(table, skip_broken)
    source = table or root
    known = tuple(column for column in OPTIONAL if any(getattr(row, column) for row in rows))
    present = {row.split for row in rows}
    if missing := [split for split in SPLITS if split not in present]:
        raise UserError(
            f"{source} has no images in the split {missing[0]}",
            "train, query and gallery each need images",
        )
    if "clothes" in known:
        _check_clothes(source, rows)
    if "camera" not in known:
        notes.append(NO_CAMERAS)
    if "clothes" not in known:
        notes.append(NO_CLOTHES)
    cameras = _numbers([row.camera for row in rows])
    train, query, gallery = (
        [
            RawRecord((row.path,), row.identity, cameras[row.camera], row.clothes or row.identity)
            for row in rows
            if row.split == split
        ]
        for split in SPLITS
    )
    persons = _numbers([record.identity for record in (*query, *gallery)])
    return make_source(
        "folder",
        root,
        train,
        {"query": query, "gallery": gallery},
        eval_split(
            query, gallery, _protocols(known), number=persons.__getitem__, clothes_key=natural_key
        ),
        hint=f"in {source}, use each identity either in train or in query and gallery",
        identity_key=natural_key,
        train_order=natural_key,
        clothes_key=natural_key,
        columns=known,
        notes=tuple(notes),
    )


def _numbers(texts: Sequence[str]) -> dict[str, int]:
    return {text: number for number, text in enumerate(sorted(set(texts), key=natural_key))}


def _protocols(known: Sequence[str]) -> tuple[Protocol, ...]:
    protocols = STANDARD if "clothes" in known else STANDARD[:1]
    if "camera" in known:
        return protocols
    return tuple(
        replace(p, name=p.name + WITHOUT_CAMERAS, other=tuple(c for c in p.other if c != "camera"))
        for p in protocols
    )


def _find_table(root: Path) -> Path | None:
    """The table of the folder, None for split folders."""
    named = [root / name for name in TABLES if (root / name).is_file()]
    tables = named or sorted(root.glob("*.csv"))
    if len(tables) > 1 and not named:
        names = ", ".join(path.name for path in tables)
        raise UserError(
            f"{root} has several tables: {names}", f"rename the one to use to {TABLES[0]}"
        )
    if not tables and not any((root / split).is_dir() for split in SPLITS):
        raise UserError(
            f"no dataset in {root}: {describe_folder(root)}", f"expected layout: {TREE}"
        )
    return tables[0] if tables else None


def _read_folders(root: Path) -> tuple[list[_Row], list[str]]:
    rows = [
        _Row(0, path, path.split("/")[1], "", "", split)
        for split in SPLITS
        for path in list_images(root, split, TREE, nested=True)
    ]
    used = {row.path.rpartition("/")[0] for row in rows}
    homes = [f"{split}/{name}" for split in SPLITS for name in subfolders(root / split)]
    empty = [home for home in homes if home not in used]
    return rows, [f"folders without images: {', '.join(empty)}"] if empty else []


def _read_table(table: Path, skip_broken: bool) -> tuple[list[_Row], list[str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"cannot read {table}: {flat(str(error))}", "save it as CSV in UTF-8"
        ) from error
    if missing := [name for name in REQUIRED if name not in header]:
        raise UserError(
            f"{table} has no column {', '.join(missing)}: its first line is {','.join(header)!r}",
            f"name the columns in the first line, separated by commas: {COLUMNS}",
        )
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise UserError(f"{table} has two columns {repeated[0]!r}", f"expected {COLUMNS}")
    if not lines:
        raise UserError(f"{table} has no lines below its header", f"write lines of {COLUMNS}")
    rows = [_row(table, header, line, cells) for line, cells in lines]
    _check_rows(table, rows)
    paths = [row.path for row in rows]
    absent = check_exist(table.parent, paths, table, skip_broken=skip_broken)
    notes = [f"missing: {first_few(absent, 'file')}"] if absent else []
    if unused := [name for name in header if name not in REQUIRED + OPTIONAL]:
        notes.append(f"unused columns: {', '.join(unused)}")
    return rows, notes


def _row(table: Path, header: Sequence[str], line: int, cells: Sequence[str]) -> _Row:
    if len(cells) != len(header):
        raise UserError(
            f"{table}, line {line}: {len(cells)} values, expected {len(header)}",
            'write one value per column; quote values with a comma: "a,b"',
        )
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    if empty := [name for name in REQUIRED if not values[name]]:
        raise UserError(
            f"{table}, line {line}: no {empty[0]}", f"{','.join(REQUIRED)} are required"
        )
    split = values["split"].lower()
    if split not in SPLITS:
        raise UserError(
            f"{table}, line {line}: unknown split {values['split']!r}",
            f"use one of {', '.join(SPLITS)}",
        )
    camera, clothes = values.get("camera", ""), values.get("clothes", "")
    path = values["path"].removeprefix("./")
    return _Row(line, path, values["identity"], camera, clothes, split)


def _check_rows(table: Path, rows: Sequence[_Row]) -> None:
    for column in OPTIONAL:
        empty = [row.line for row in rows if not getattr(row, column)]
        if empty and len(empty) < len(rows):
            raise UserError(
                f"{table}, line {empty[0]}: no {column}, as in {len(empty)} of {len(rows)} lines",
                f"write the {column} in every line or in none",
            )
    # Without cameras a query would find itself in the gallery.
    by_split = any(row.camera for row in rows)
    first: dict[tuple[str, str], _Row] = {}
    for row in rows:
        other = first.setdefault((row.path, row.split if by_split else ""), row)
        if other is not row:
            raise UserError(
                f"{table}: lines {other.line} and {row.line} are both {row.path}",
                "list each image once",
            )


def _check_clothes(source: Path, rows: Sequence[_Row]) -> None:
    first: dict[str, _Row] = {}
    for row in rows:
        other = first.setdefault(row.clothes, row)
        if other.identity != row.identity:
            raise UserError(
                f"{source}: the clothes {row.clothes!r} belong to {other.identity!r} (line "
                f"{other.line}) and {row.identity!r} (line {row.line})",
                f"use different clothes labels, e.g. {row.identity}_{row.clothes}",
            )
