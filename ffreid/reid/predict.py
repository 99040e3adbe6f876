"""``ffreid predict`` of re-ID: a search as a table, JSON lines and rank lists as pictures."""

import json
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid import atomic, report
from ffreid.engine.dataset_files import file_name, read_image, write_images
from ffreid.errors import UserError
from ffreid.reid.own_files import Item, labels_from_csv, labels_from_names, read_persons
from ffreid.reid.predictor import ReidModel
from ffreid.reid.search import TOP, SearchResult, named, search
from ffreid.reid.visualization import MAX_SHEET_ROWS, blur_face, draw_rank_list, draw_sheet

SHOWN = 20
"""Queries in the table, and rank lists that are drawn unless the user says otherwise."""
Label = str | None


@dataclass(frozen=True)
class _Labels:
    """The persons of queries and gallery items, None where unknown."""

    query: Sequence[Label]
    gallery: Sequence[Label]

    def is_match(self, query: int, item: int) -> bool | None:
        """Whether two are one person, None if that is unknown."""
        asked, found = self.query[query], self.gallery[item]
        return None if asked is None or found is None else asked == found

    def __bool__(self) -> bool:
        return any(self.query) and any(self.gallery)


def predict(
    model: ReidModel,
    *,
    query: Path,
    gallery: Path,
    out: Path | None = None,
    top: int = TOP,
    labels: Path | None = None,
    pictures: int = SHOWN,
    blur_faces: bool = False,
    false_match_rate: float | None = None,
    force: bool = False,
) -> bool:
    """Search pictures or tracklets in a gallery, print a table, write results to `out`.

    ``out/matches.jsonl`` has a line for each query, ``out/pictures/`` rank lists of the first
    `pictures` queries; earlier results are replaced with `force` only. `labels` is a table with the
    columns path and identity; without it persons are those in the names, if they follow a dataset's
    convention.

    Returns whether all pictures could be read; the others are listed at the end.
    """
    if out is not None:
        try:
            atomic.check_writable(out / "matches.jsonl", stream=False)
        except UserError as error:
            raise UserError(error.message, "use another folder with --out FOLDER") from error
        if (out / "matches.jsonl").exists() and not force:
            raise UserError(
                f"{out} already contains matches.jsonl",
                "use another folder with --out FOLDER, or add --force to overwrite it",
            )
    table = None if labels is None else read_persons(labels)
    result = search(model, query, gallery, top=top, false_match_rate=false_match_rate)
    asked, items = result.query_items, result.gallery_items
    if labels is not None and table is not None:
        persons = _Labels(*labels_from_csv(labels, table, (query, asked), (gallery, items)))
    else:
        persons = _Labels(*labels_from_names(asked, items))
    _show(result, persons)
    for note in result.notes:
        report.log(f"note: {note}")
    known = len(asked) + len(items) - result.extracted
    report.log(
        f"{_count(asked, 'query', 'queries')}, {_count(items, 'gallery item', 'gallery items')}; "
        f"features: {result.extracted} extracted, {known} known"
    )
    if out is not None:
        _write_lines(out / "matches.jsonl", result, persons)
        drawn = _draw(result, persons, out / "pictures", pictures, blur_faces=blur_faces)
        lists = _count(range(drawn), "rank list", "rank lists")
        report.log(f"matches: {out / 'matches.jsonl'}; {lists}: {out / 'pictures'}")
    if result.unreadable:
        report.log(f"not read: {_count(result.unreadable, 'file', 'files')}")
        for path, reason in result.unreadable.items():
            report.log(f"  {named(path, reason)}")
    return not result.unreadable


def _count(items: Sized, one: str, several: str) -> str:
    return f"{len(items)} {one if len(items) == 1 else several}"


def _nobody(result: SearchResult) -> str:
    return "nothing else" if result.threshold is None else "nobody"


def _show(result: SearchResult, persons: _Labels) -> None:
    """Print the table of the first queries."""
    rows: list[list[report.Cell]] = []
    for number, (name, matches) in enumerate(zip(result.queries, result.matches, strict=True)):
        if number == SHOWN:
            break
        for rank, match in enumerate(matches, 1):
            same = persons.is_match(number, match.index)
            person = {True: "same", False: "other", None: "-"}[same]
            first = name if rank == 1 else ""
            rows.append([first, rank, match.name, match.cosine, person])
        if not matches:
            rows.append([name, None, _nobody(result), None, None])
    columns = ["query", "rank", "match", "cosine", "person"]
    if not persons:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    report.show_table("nearest gallery items", columns, rows, digits=4)
    if len(result.queries) > SHOWN:
        report.log(f"note: the table has the first {SHOWN} of {len(result.queries)} queries")
    if persons:
        found = [
            persons.is_match(number, matches[0].index)
            for number, matches in enumerate(result.matches)
            if matches
        ]
        known = [same for same in found if same is not None]
        if known:
            asked = _count(known, "query", "queries")
            report.log(f"the first match is the same person for {sum(known)} of {asked}")


def _write_lines(path: Path, result: SearchResult, persons: _Labels) -> None:
    try:
        with atomic.atomic_write(path) as file:
            for number, (name, matches) in enumerate(
                zip(result.queries, result.matches, strict=True)
            ):
                line = {
                    "query": name,
                    "person": persons.query[number],
                    "nobody": not matches,
                    "threshold": result.threshold,
                    "matches": [
                        {
                            "rank": rank,
                            "name": match.name,
                            "cosine": round(match.cosine, 6),
                            "person": persons.gallery[match.index],
                            "same": persons.is_match(number, match.index),
                        }
                        for rank, match in enumerate(matches, 1)
                    ],
                }
                file.write(json.dumps(line).encode() + b"\n")
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}", "use another folder with --out FOLDER"
        ) from error


def _draw(
    result: SearchResult, persons: _Labels, folder: Path, count: int, *, blur_faces: bool
) -> int:
    """Write the rank lists of the first queries; return their number."""
    count = min(count, len(result.queries))
    sheet: list[npt.NDArray[np.uint8]] = []

    def read(item: Item) -> npt.NDArray[np.uint8]:
        image = read_image(item.shown)
        return blur_face(image) if blur_faces else image

    def named() -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        for number in range(count):
            name, matches = result.queries[number], result.matches[number]
            found = [result.gallery_items[match.index] for match in matches]
            image = draw_rank_list(
                read(result.query_items[number]),
                list(map(read, found)),
                is_match=[persons.is_match(number, match.index) for match in matches],
                cosines=[match.cosine for match in matches],
                label=name.rpartition("/")[2],
                labels=[match.name.rpartition("/")[2] for match in matches],
                title=name,
                empty=_nobody(result),
            )
            sheet.append(image)
            yield file_name(f"{number:03d}-{Path(name).with_suffix('')}"), image
        if 1 < len(sheet) <= MAX_SHEET_ROWS:
            yield "sheet.png", draw_sheet(sheet)

    write_images(folder, named())
    return count
