"""A user's own images: a table in CSV, or folders by split and identity.

Identities, cameras and clothes may be any text. They are numbered in sorted order, numbers by
value and before other text.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ffreid.engine.dataset_files import describe_folder
from ffreid.errors import UserError, printable
from ffreid.reid.data.csv_files import as_label, read_csv
from ffreid.reid.data.readers.files import ImageFinder, examine, find_listed, first_few
from ffreid.reid.data.readers.relabel import (
    CAL_WITHOUT_CLOTHES,
    JUNK,
    NOT_EVALUATED,
    RawRecord,
    eval_split,
    make_source,
    natural_key,
)
from ffreid.reid.data.records import Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import STANDARD, UNKNOWN, Protocol

TREE = DATASETS["folder"].tree
EVALUATED = ("query", "gallery")
SPLITS = ("train", *EVALUATED)
TABLES = ("records.csv", "labels.csv")
"""Preferred names, if there are several tables."""

REQUIRED, OPTIONAL = ("path", "identity", "split"), ("camera", "clothes")
MISSING = {"nan", "NaN", "NaT", "None", "<NA>", "NULL", "null", "N/A", "#N/A"}
"""How pandas and spreadsheets write a value that is missing."""
COLUMNS = "path,identity,camera,clothes,split"
WITHOUT_CAMERAS = ", without cameras"
NO_CAMERAS = (
    "general, SC and CC, which exclude the query's camera, are not evaluated; "
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
    """Read a folder of the user's own; train may be empty, and share identities with the rest.

    Without cameras, protocols do not exclude any; without clothes, protocols that need them are
    not evaluated and each identity has one clothes label in training. Query and gallery images
    without a label that others have are no matches under protocols that compare it.
    """
    table = _find_table(root)
    finder = ImageFinder(root, TREE, skip_broken=skip_broken)
    rows, notes = _read_folders(finder) if table is None else _read_table(table, skip_broken)
    source = table or root
    junk = [row.path for row in rows if row.identity == JUNK]
    rows = [row for row in rows if row.identity != JUNK]
    rows, missing_notes = _without_missing(source, rows)
    by_split = {split: [row for row in rows if row.split == split] for split in SPLITS}
    if missing := [split for split in EVALUATED if not by_split[split]]:
        raise UserError(
            f"{source} has no images in the split {missing[0]}",
            "query and gallery each need images, and to train also train",
        )
    without = {
        column: [
            split
            for split, part in by_split.items()
            if not any(getattr(row, column) for row in part)
        ]
        for column in OPTIONAL
    }
    known = tuple(c for c in OPTIONAL if not set(EVALUATED) & set(without[c]))
    _check_clothes(source, rows)
    _check_repeated(root, source, rows, by_split="camera" in known)
    cameras = _numbers([row.camera for row in rows if row.camera]) or {"": 0}
    records = {
        split: [
            RawRecord(
                (row.path,),
                row.identity,
                cameras.get(row.camera, UNKNOWN),
                # An unknown label remains in the evaluation; in training it is one of the person's.
                row.clothes or ("" if split in EVALUATED and "clothes" in known else row.identity),
            )
            for row in part
        ]
        for split, part in by_split.items()
    }
    train, query, gallery = (records[split] for split in SPLITS)
    camera_names = {number: name for name, number in cameras.items()}
    persons = _numbers([record.identity for record in (*query, *gallery)])
    return make_source(
        "folder",
        root,
        train,
        {"query": query, "gallery": gallery},
        eval_split(
            query,
            gallery,
            _protocols(known),
            number=persons.__getitem__,
            clothes_key=natural_key,
            camera_name=lambda camera: camera_names.get(camera, ""),
        ),
        can_share=True,
        identity_key=natural_key,
        train_order=natural_key,
        clothes_key=natural_key,
        columns=known,
        notes=(
            *notes,
            *missing_notes,
            *_label_notes(by_split, without),
            *_look_alikes(rows),
            *_spelt_otherwise(by_split),
            *([f"left out, as {JUNK} is junk: {first_few(junk, 'image')}"] if junk else []),
            *finder.notes(),
        ),
    )


def _without_missing(source: Path, rows: list[_Row]) -> tuple[list[_Row], list[str]]:
    """The rows with labels `MISSING` as empty ones, and notes on them; refuse such identities."""
    notes = []
    for column in ("identity", *OPTIONAL):
        found = [row for row in rows if getattr(row, column) in MISSING]
        if not found:
            continue
        note = f"{column} {getattr(found[0], column)!r}, a missing value, of "
        note += first_few([row.path for row in found], "image")
        if column == "identity":
            hint = f"write the identities; {JUNK} leaves an image out"
            raise UserError(f"{source}: {note}", hint)
        empty: dict[str, Any] = {column: ""}
        rows = [r._replace(**empty) if getattr(r, column) in MISSING else r for r in rows]
        notes.append(f"no label: {note}")
    return rows, notes


def _label_notes(
    by_split: Mapping[str, Sequence[_Row]], without: Mapping[str, Sequence[str]]
) -> list[str]:
    """Notes on cameras and clothes that are missing, in a whole split or in some images."""
    notes = []
    searched = [row for split in EVALUATED for row in by_split[split]]
    for column, consequence in (("camera", NO_CAMERAS), ("clothes", NOT_EVALUATED)):
        if splits := [split for split in without[column] if split in EVALUATED]:
            where = "" if len(without[column]) == len(SPLITS) else f" in {' and '.join(splits)}"
            notes.append(f"no {column} labels{where}: {consequence}")
        elif some := [row.path for row in searched if not getattr(row, column)]:
            notes.append(
                f"no {column} label of {first_few(some, 'image')}: where it is compared, they "
                "count neither as right nor as wrong for their person"
            )
    some = [row.path for row in by_split["train"] if not row.clothes]
    if some and len(without["clothes"]) == len(SPLITS):
        notes[-1] += f"; {CAL_WITHOUT_CLOTHES}"
    elif len(some) == len(by_split["train"]) > 0:
        notes.append(f"no clothes labels in train: {CAL_WITHOUT_CLOTHES}")
    elif some:
        notes.append(
            f"no clothes label of {first_few(some, 'training image')}: those of a person count as "
            "one more label"
        )
    return notes


def _look_alikes(rows: Sequence[_Row]) -> list[str]:
    """Notes on labels that differ only in what is hard to see."""
    notes = []
    for column in ("identity", *OPTIONAL):
        alike: dict[str, list[str]] = {}
        for label in sorted({getattr(row, column) for row in rows} - {""}):
            alike.setdefault(_appearance(label), []).append(f"'{printable(label)}'")
        groups = [" and ".join(labels) for labels in alike.values() if len(labels) > 1]
        if groups:
            notes.append(f"{column}: taken as different: {'; '.join(groups[:5])}")
    return notes


def _spelt_otherwise(by_split: Mapping[str, Sequence[_Row]]) -> list[str]:
    """Notes on labels of query that gallery spells otherwise (1 and c1, c1 and cam01) or lacks."""
    notes = []
    for column in ("identity", "camera"):
        query, gallery = (
            {getattr(row, column) for row in by_split[split]} - {""} for split in EVALUATED
        )
        by_number = defaultdict(list)
        for label in sorted(gallery - query):
            word, number = _word_and_number(label)
            by_number[number].append((word, label))
        pairs = []
        for label in sorted(query - gallery):
            word, number = _word_and_number(label)
            pairs += [
                f"'{printable(label)}' and '{printable(other)}'"
                for start, other in by_number[number]
                if number
                and (word in ("", start[:1], start) or start in ("", word[:1]))
                and _appearance(label) != _appearance(other)
            ]
        if pairs:
            notes.append(f"{column}: different in query and gallery: {first_few(pairs, 'pair')}")
        elif column == "identity" and len(query) < 2 * len(query - gallery) < 2 * len(query):
            lost = first_few(sorted(query - gallery, key=natural_key), "identity")
            notes.append(f"of {len(query)} identities in query, gallery lacks {lost}")
    return notes


def _word_and_number(label: str) -> tuple[str, str]:
    """The parts of a label such as 7, c7 or cam_07; empty ones of others."""
    match = re.fullmatch(r"([^\W\d_]*)[\W_]*0*(\d+)", _appearance(label))
    return (match[1], match[2]) if match else ("", "")


def _appearance(label: str) -> str:
    """A label as the eye takes it: without case, leading zeros, ``.0`` and what is invisible."""
    if not label.isascii():
        label = unicodedata.normalize("NFKC", label)
        label = "".join(c for c in label if unicodedata.category(c) != "Cf")
    label = re.sub(r"(?<=\d)\.0+$", "", " ".join(label.split()).casefold())
    return label.lstrip("0") or label[:1]


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
    tables = named or sorted(path for path in root.glob("[!.]*") if path.suffix.lower() == ".csv")
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


def _read_folders(finder: ImageFinder) -> tuple[list[_Row], list[str]]:
    paths = {split: finder.images(split, nested=True) for split in SPLITS}
    rows = [
        _Row(0, path, as_label(path.split("/")[1]), "", "", split)
        for split in SPLITS
        for path in paths[split]
    ]
    used = {row.path.rpartition("/")[0] for row in rows}
    homes = [home for split in SPLITS if paths[split] for home in finder.scan(split)[1]]
    empty = [home for home in homes if home not in used]
    return rows, [f"folders without images: {', '.join(empty)}"] if empty else []


def _read_table(table: Path, skip_broken: bool) -> tuple[list[_Row], list[str]]:
    header, lines = read_csv(table, REQUIRED, COLUMNS)
    rows = [_row(table, line, values) for line, values in lines]
    paths, absent = find_listed(
        table.parent, [row.path for row in rows], table, skip_broken=skip_broken
    )
    rows = [row._replace(path=path) for row, path in zip(rows, paths, strict=True)]
    notes = [f"missing: {first_few(absent, 'file')}"] if absent else []
    if unused := [name for name in header if name not in REQUIRED + OPTIONAL]:
        notes.append(f"unused columns: {', '.join(unused)}")
    return rows, notes


def _row(table: Path, line: int, values: Mapping[str, str]) -> _Row:
    if empty := [name for name in REQUIRED if not values[name]]:
        raise UserError(
            f"{table}, line {line}: no {empty[0]}",
            f"{','.join(REQUIRED)} are required; identity {JUNK} leaves an image out",
        )
    split = values["split"].lower()
    if split not in SPLITS:
        raise UserError(
            f"{table}, line {line}: unknown split {values['split']!r}",
            f"use one of {', '.join(SPLITS)}",
        )
    camera, clothes = values.get("camera", ""), values.get("clothes", "")
    path = values["path"].replace("\\", "/")
    if path.startswith("./") or "//" in path or "/./" in path:
        path = str(PurePosixPath(path))
    return _Row(line, path, values["identity"], camera, clothes, split)


def _check_repeated(root: Path, source: Path, rows: Sequence[_Row], *, by_split: bool) -> None:
    """Refuse files of two identities, or twice in query or gallery, by whatever names.

    Also paths listed twice; `by_split`, in the same split.
    """
    # Without cameras a query would find itself in the gallery.
    first: dict[object, _Row] = {}
    for row, info in zip(rows, examine(root, [row.path for row in rows]), strict=True):
        file = info and info[1]
        keys: list[object] = [(row.path, row.split if by_split else "")]
        keys += [(file, row.split)] if file and row.split in EVALUATED else []
        others = [first.setdefault(key, row) for key in keys]
        of_file = first.setdefault(file, row) if file else row
        others += [of_file] if of_file.identity != row.identity else []
        if other := next((other for other in others if other is not row), None):
            lines = f"lines {other.line} and {row.line} are both {row.path}"
            if other.path != row.path:
                where = f" (lines {other.line} and {row.line})" if row.line else ""
                lines = f"{other.path} and {row.path}{where} are one file"
            persons = f", as {other.identity!r} and as {row.identity!r}"
            raise UserError(
                f"{source}: {lines}{persons if other.identity != row.identity else ''}",
                "list each image once",
            )


def _check_clothes(source: Path, rows: Sequence[_Row]) -> None:
    first: dict[str, _Row] = {}
    shared: dict[str, _Row] = {}
    for row in filter(lambda row: row.clothes, rows):
        if first.setdefault(row.clothes, row).identity != row.identity:
            shared.setdefault(row.clothes, row)
    if not shared:
        return
    clothes, *more = shared
    other, row = first[clothes], shared[clothes]
    also = f"; so do {first_few(more, 'label')}" if more else ""
    raise UserError(
        f"{source}: the clothes {clothes!r} belong to {other.identity!r} (line {other.line}) and "
        f"{row.identity!r} (line {row.line}){also}",
        f"use different clothes labels, e.g. {row.identity}_{row.clothes}",
    )
