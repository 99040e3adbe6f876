"""Number of identities, clothes, cameras and images of a dataset, with the published numbers."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ffreid import atomic, report
from ffreid.reid.data.own_images import MOST_READ, own_image_notes, own_images, seen_in_training
from ffreid.reid.data.records import Record, Source
from ffreid.reid.resources import resource
from ffreid.reid.retrieval.protocols import UNKNOWN

QUANTITIES = ("identities", "outfits", "cameras", "pictures", "tracklets", "frames")
HEADINGS = {"outfits": "clothes", "pictures": "images"}
DIFFERENT = "≠"

Row = dict[str, Any]
"""A split's name under ``split``, and quantities by name."""


def report_dataset(name: str, source: Source, json_file: Path | None) -> dict[str, Any]:
    """Print and return the counts of a dataset with the published ones, and its notes.

    The ``difference`` in a row is counted - published.
    """
    facts = resource("counts").get(name, {})
    rows = statistics(source, facts)
    release = compare(rows, facts.get("releases", ()))
    own = own_images(source.test, source, most_read=MOST_READ)
    notes = [*source.notes, *own_image_notes(own, len(source.test.query), at_least=True)]
    notes += seen_in_training(source)
    payload = {
        "dataset": name,
        "folder": str(source.folder),
        "release": release,
        "rows": rows,
        "notes": notes,
    }
    _show(f"{name}: published counts from: {release}" if release else name, rows)
    for note in notes:
        report.log(f"note: {note}")
    if json_file is not None:
        atomic.write_json(json_file, payload)
    return payload


def statistics(source: Source, facts: Mapping[str, Any]) -> list[Row]:
    """Count the content of each split and of the dataset; None for unknown quantities.

    The dataset's entry in ``counts.json``, `facts`, lists labels without meaning (LaST's cameras)
    and whether the validation identities are those of training. The rows are ``train``, ``query``,
    ``gallery``, ``test`` (both), ``val query``, ``val gallery``, ``val`` and ``total``.
    """
    splits: dict[str, tuple[Record, ...]] = {"train": source.train}
    for prefix, split in (("", source.test), ("val ", source.val)):
        if split is not None:
            splits[f"{prefix}query"], splits[f"{prefix}gallery"] = split.query, split.gallery
            splits[prefix.strip() or "test"] = split.query + split.gallery
    rows = [_count(name, records, source, facts) for name, records in splits.items()]
    return [*rows, _total(rows, splits, facts, len(source.shared))]


def compare(rows: Sequence[Row], releases: Sequence[Mapping[str, Any]]) -> str | None:
    """Add the published counts of the nearest release, if any, to `rows`; return their source."""
    if not releases:
        return None
    nearest = min(releases, key=lambda release: _distance(rows, release["rows"]))
    for row in rows:
        published = dict(nearest["rows"].get(row["split"], {}))
        mark = published.pop("mark", None)
        if published:
            row["published"] = published
            row["difference"] = {
                name: None if row.get(name) is None else row[name] - count
                for name, count in published.items()
            }
        if mark:
            row["mark"] = mark
    source: str = nearest["source"]
    return source


def _count(split: str, records: Sequence[Record], source: Source, facts: Mapping[str, Any]) -> Row:
    row: Row = {"split": split}
    for name, label in (("identities", "identity"), ("outfits", "clothes"), ("cameras", "camera")):
        row[name] = len({getattr(record, label) for record in records} - {UNKNOWN})
    unknown = list(facts.get("unknown", {}).get("all", ()))
    if split != "train":
        unknown += facts.get("unknown", {}).get("searched", ())
    unknown += ["cameras"] * ("camera" not in source.columns)
    unknown += ["outfits"] * ("clothes" not in source.columns)
    row |= dict.fromkeys(unknown)
    if source.video:
        frames = sum(len(record.frames) for record in records)
        return row | {"tracklets": len(records), "frames": frames}
    return row | {"pictures": len(records)}


def _total(
    rows: Sequence[Row],
    splits: Mapping[str, Sequence[Record]],
    facts: Mapping[str, Any],
    shared: int,
) -> Row:
    """All splits together; training and evaluation number identities and clothes separately."""
    by_split = {row["split"]: row for row in rows}
    parts = [by_split[name] for name in ("train", "test", "val") if name in by_split]
    separate_val = facts.get("validation_identities") != "train"
    disjoint = [row for row in parts if separate_val or row["split"] != "val"]
    total: Row = {"split": "total", **dict.fromkeys(QUANTITIES[:3])}
    evaluated = chain(splits["test"], splits.get("val", ()) if separate_val else ())
    total["identities"] = by_split["train"]["identities"] + len({r.identity for r in evaluated})
    total["identities"] -= shared  # persons of the training that are tested too
    if all(row["outfits"] is not None for row in disjoint):
        total["outfits"] = sum(row["outfits"] for row in disjoint)
    if all(row["cameras"] is not None for row in parts):
        total["cameras"] = len({record.camera for records in splits.values() for record in records})
    sizes = [name for name in QUANTITIES[3:] if name in by_split["train"]]
    return total | {name: sum(row[name] for row in parts) for name in sizes}


def _distance(rows: Sequence[Row], published: Mapping[str, Mapping[str, Any]]) -> float:
    """Mean relative difference of all published counts."""
    by_split = {row["split"]: row for row in rows}
    parts = [
        abs(by_split[split][name] - count) / count
        for split, counts in published.items()
        for name, count in counts.items()
        if name != "mark" and by_split.get(split, {}).get(name) is not None
    ]
    return sum(parts) / len(parts) if parts else float("inf")


def _show(title: str, rows: Sequence[Row]) -> None:
    quantities = [quantity for quantity in QUANTITIES if quantity in rows[0]]
    published = {q for row in rows for q in row.get("published", {})}
    marked = any("mark" in row for row in rows)
    columns = ["split"]
    for quantity in quantities:
        columns.append(HEADINGS.get(quantity, quantity))
        columns += ["published"] * (quantity in published)
    cells: list[list[report.Cell]] = []
    for row in rows:
        line: list[report.Cell] = [row["split"]]
        for quantity in quantities:
            line.append(row[quantity])
            if quantity in published:
                count = row.get("published", {}).get(quantity, "")
                differs = row.get("difference", {}).get(quantity)
                line.append(f"{DIFFERENT} {count}" if differs else count)
        cells.append([*line, *([row.get("mark", "")] if marked else [])])
    report.show_table(title, [*columns, *(["mark"] if marked else [])], cells)
