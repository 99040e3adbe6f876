"""How many people, outfits, cameras and pictures a data set has, beside the published counts."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ffreid import atomic, report
from ffreid.reid.data.records import Record, Source
from ffreid.reid.resources import resource

QUANTITIES = ("identities", "outfits", "cameras", "pictures", "tracklets", "frames")
DIFFERENT = "≠"

Row = dict[str, Any]
"""A split's name under ``split``, and quantities by name."""


def tell(name: str, source: Source, json_file: Path | None) -> dict[str, Any]:
    """Print the counts of a data set beside the published ones, and what else is to know of it.

    Args:
        name: under which counts are published, e.g. ``ltcc``; others have none.
        source: the data set.
        json_file: where the result goes as well.

    Returns:
        ``dataset``, ``folder``, ``rows`` of `statistics`, each with ``published``, ``difference``
        (ours less published) and ``mark`` where there are any, ``release``, ``notes``.

    Raises:
        UserError: the file cannot be written.
    """
    facts = resource("counts").get(name, {})
    rows = statistics(source, facts)
    release = compare(rows, facts.get("releases", ()))
    payload = {
        "dataset": name,
        "folder": str(source.folder),
        "release": release,
        "rows": rows,
        "notes": list(source.notes),
    }
    _show(name, rows, release)
    for note in source.notes:
        report.log(f"note: {note}")
    if json_file is not None:
        atomic.write_json(json_file, payload)
    return payload


def statistics(source: Source, facts: Mapping[str, Any] | None = None) -> list[Row]:
    """Count what there is in each split, and in all together.

    Args:
        source: the data set.
        facts: its entry among the published counts: which labels say nothing (LaST's cameras), and
            whose identities the validation pictures are of.

    Returns:
        Rows ``train``, ``query``, ``gallery``, ``test`` (both), ``val query``, ``val gallery``,
        ``val``, ``total``; None for a quantity that the labels don't tell.
    """
    facts = facts or {}
    searches = {"": source.test} | ({"val ": source.val} if source.val else {})
    splits: dict[str, tuple[Record, ...]] = {"train": source.train}
    for prefix, found in searches.items():
        splits[f"{prefix}query"], splits[f"{prefix}gallery"] = found.query, found.gallery
        splits[prefix.strip() or "test"] = found.query + found.gallery
    rows = [_count(name, records, source, facts) for name, records in splits.items()]
    return [*rows, _total(rows, splits, facts)]


def compare(rows: Sequence[Row], releases: Sequence[Mapping[str, Any]]) -> str | None:
    """Write the published counts into `rows`, of the release that is nearest.

    Returns:
        Where those counts are from, None if there are none.
    """
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
    row: Row = {
        "split": split,
        "identities": len({record.identity for record in records}),
        "outfits": len({record.clothes for record in records}),
        "cameras": len({record.camera for record in records}),
    }
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
    rows: Sequence[Row], splits: Mapping[str, Sequence[Record]], facts: Mapping[str, Any]
) -> Row:
    """All splits together; training and the searches number identities and outfits apart."""
    by_split = {row["split"]: row for row in rows}
    whole = [by_split[name] for name in ("train", "test", "val") if name in by_split]
    own_val = facts.get("validation_identities") != "train"
    labelled = [row for row in whole if own_val or row["split"] != "val"]
    total: Row = {"split": "total", **dict.fromkeys(QUANTITIES[:3])}
    searched = chain(splits["test"], splits.get("val", ()) if own_val else ())
    total["identities"] = by_split["train"]["identities"] + len({r.identity for r in searched})
    if all(row["outfits"] is not None for row in labelled):
        total["outfits"] = sum(row["outfits"] for row in labelled)
    if all(row["cameras"] is not None for row in whole):
        total["cameras"] = len({record.camera for records in splits.values() for record in records})
    sizes = [name for name in QUANTITIES[3:] if name in by_split["train"]]
    return total | {name: sum(row[name] for row in whole) for name in sizes}


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


def _show(name: str, rows: Sequence[Row], release: str | None) -> None:
    quantities = [quantity for quantity in QUANTITIES if quantity in rows[0]]
    beside = {q for row in rows for q in row.get("published", {})}
    marked = any("mark" in row for row in rows)
    columns = ["split"]
    for quantity in quantities:
        columns += [quantity, "published"] if quantity in beside else [quantity]
    cells: list[list[report.Cell]] = []
    for row in rows:
        line: list[report.Cell] = [row["split"]]
        for quantity in quantities:
            line += [row[quantity], *([_beside(row, quantity)] if quantity in beside else [])]
        cells.append([*line, *([row.get("mark", "")] if marked else [])])
    title = f"{name}: published counts from: {release}" if release else name
    report.show_table(title, [*columns, *(["mark"] if marked else [])], cells)


def _beside(row: Row, quantity: str) -> report.Cell:
    """The published count, marked where ours differs."""
    count: int | None = row.get("published", {}).get(quantity)
    if count is None:
        return ""
    return count if row["difference"][quantity] in (0, None) else f"{DIFFERENT} {count}"
