"""Checks of all pictures and labels of a re-ID dataset."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ffreid.engine.dataset_files import open_image, stored_as
from ffreid.engine.findings import Findings, Kind, in_threads
from ffreid.errors import UserError
from ffreid.reid.data.checks import matched_queries, untrainable, without_match
from ffreid.reid.data.own_images import matches
from ffreid.reid.data.records import EvalSplit, Record, Source, labels, record_path

CHECKS = ("dataset", "pictures", "labels", "queries", "duplicates")
HEIGHT, WIDTH = 32, 16
"""Size of the small grey versions that are compared."""
NEAR = 0.98
"""Correlation of small grey versions of one picture, saved again or in another size."""
CHUNK = 512
"""Pictures that are read ahead."""

UNREADABLE = "pictures that cannot be read"
GREY = Kind(
    "pictures", "pictures stored as grey", "store them in colour: clothes are told by colours"
)
CMYK = Kind(
    "pictures", "CMYK pictures", "convert them to RGB: other programs may show other colours"
)
TURNED = Kind(
    "pictures",
    "pictures with an EXIF orientation",
    "turn the pixels, e.g. magick mogrify -auto-orient FILE: ffreid turns them, other programs "
    "may not",
)
BLANK = Kind("pictures", "pictures of a single colour", "copy them again, or remove them")
ONE_PICTURE = Kind(
    "labels",
    "training identities with one picture or tracklet",
    "add pictures of them, or leave them out: they have no positive pair",
)
ONE_CAMERA = Kind(
    "labels",
    "training identities with one camera",
    "add pictures of another camera, or check the camera labels: the network learns to compare "
    "between cameras",
)
UNMATCHED = Kind(
    "queries",
    "queries without a match under any protocol",
    "add pictures of them by another camera to the gallery, or check the labels: these queries "
    "are not evaluated",
)
TWO_IDENTITIES = Kind(
    "duplicates", "one picture of two identities", "keep the one with the right identity"
)
OWN = Kind(
    "duplicates",
    "queries whose own picture is a match in the gallery",
    "remove it from the gallery, or give both the same camera",
)
TRAINED = Kind(
    "duplicates",
    "pictures in train that are in query or gallery as well",
    "remove them from train: their results say nothing about new pictures",
)
AGAIN = Kind("duplicates", "one picture twice in a split", "keep one of them")


class _Picture(NamedTuple):
    """What a file shows: its mistakes, a digest of its pixels and its small grey version."""

    path: str
    error: UserError | None = None
    kind: Kind | None = None
    digest: bytes = b""
    small: npt.NDArray[np.uint8] | None = None


class _Item(NamedTuple):
    """A record in a part of the dataset, with its identity's name."""

    part: str
    record: Record
    identity: str


def inspect_labels(findings: Findings, source: Source, *, has_cameras: bool) -> None:
    """Find identities that cannot be learnt, and what makes the dataset useless as a whole."""
    findings.checked["labels"] += len(source.identities)
    records = defaultdict(list)
    for record in source.train:
        records[record.identity].append(record)
    for identity, members in sorted(records.items()):
        name = f"{source.identities[identity]}: {record_path(members[0])}"
        if len(members) == 1:
            findings.add(ONE_PICTURE, name)
        elif has_cameras and len({record.camera for record in members}) == 1:
            findings.add(ONE_CAMERA, f"{name} and {len(members) - 1} more")
    problems = [without_match(source.test, source.columns)]
    if source.train:
        problems.append(untrainable(source))
    else:
        findings.notes.append("there are no training pictures: an evaluation needs none")
    for message, mend in filter(None, problems):
        findings.add(Kind("labels", "unusable labels", mend), message)
    if not has_cameras:
        findings.notes.append("cameras are not known: identities of one camera are not looked for")


def inspect_queries(findings: Findings, source: Source) -> list[dict[str, Any]]:
    """Find queries that never have a match; count those of each protocol."""
    rows: list[dict[str, Any]] = []
    for name, split in _splits(source).items():
        query, gallery = (labels(part, source.columns) for part in (split.query, split.gallery))
        findings.checked["queries"] += len(split.query)
        ever = np.zeros(len(split.query), bool)
        for protocol in split.protocols:
            if not protocol.columns <= {"identity", *source.columns}:
                findings.notes.append(
                    f"{protocol.name} is not checked: labels of "
                    f"{', '.join(sorted(protocol.columns - {'identity', *source.columns}))} are "
                    "not known"
                )
                continue
            takes_part, matched = (t.numpy() for t in matched_queries(protocol, query, gallery))
            ever |= matched
            lost = np.flatnonzero(takes_part & ~matched)
            rows.append(
                {
                    "split": name,
                    "protocol": protocol.name,
                    "queries": int(takes_part.sum()),
                    "without a match": len(lost),
                    "cases": [record_path(split.query[i]) for i in lost],
                }
            )
        present = {record.identity for record in split.gallery}
        for index in np.flatnonzero(~ever):
            record = split.query[index]
            reason = "only as junk" if record.identity in present else "not at all"
            person = split.names.get("identity", {}).get(record.identity, str(record.identity))
            findings.add(UNMATCHED, f"{record_path(record)}: {person} is in the gallery {reason}")
    return rows


def inspect_pictures(findings: Findings, source: Source, advance: Callable[[int], None]) -> None:
    """Find pictures that cannot be read, are stored in odd ways, or occur twice."""
    items = _items(source)
    frames = [frame for item in items for frame in item.record.frames]
    compared = {frame for item in items for frame in _some(item.record)}
    pictures: dict[str, _Picture] = {}
    look = partial(_look, folder=source.folder, compared=compared)
    for picture in in_threads(look, list(dict.fromkeys(frames)), ahead=CHUNK):
        pictures[picture.path] = picture
        if picture.error is not None:
            findings.add_error("pictures", UNREADABLE, picture.error)
        elif picture.kind is not None:
            findings.add(picture.kind, picture.path)
        advance(1)
    findings.checked["pictures"] += len(pictures)
    findings.checked["duplicates"] += len(compared)
    _find_copies(findings, items, pictures)
    for split in _splits(source).values():
        _find_own_pictures(findings, split, source.columns, pictures)
    if source.video:
        findings.notes.append(
            "of tracklets, the first, middle and last frame are looked for in others"
        )


def count_frames(source: Source) -> int:
    """Number of different picture files."""
    return len({frame for item in _items(source) for frame in item.record.frames})


def _splits(source: Source) -> dict[str, EvalSplit]:
    return {"test": source.test} | ({"val": source.val} if source.val else {})


def _items(source: Source) -> list[_Item]:
    items = [_Item("train", r, source.identities[r.identity]) for r in source.train]
    for name, split in _splits(source).items():
        prefix = "" if name == "test" else f"{name} "
        names = split.names.get("identity", {})
        for part, records in (("query", split.query), ("gallery", split.gallery)):
            items += [
                _Item(prefix + part, r, names.get(r.identity, str(r.identity))) for r in records
            ]
    return items


def _some(record: Record) -> tuple[str, ...]:
    """The frames that are compared with other records."""
    frames = record.frames
    return tuple(dict.fromkeys((frames[0], frames[len(frames) // 2], frames[-1])))


def _look(path: str, *, folder: Path, compared: set[str]) -> _Picture:
    try:
        mode, is_turned = stored_as(folder / path)
        image = open_image(folder / path)
    except UserError as error:
        return _Picture(path, error)
    kind = TURNED if is_turned else CMYK if mode == "CMYK" else None
    if mode in ("1", "L", "LA", "La") or mode[0] == "I":
        kind = GREY
    if len({*image.convert("L").getextrema()}) == 1:
        return _Picture(path, kind=BLANK)
    if path not in compared:
        return _Picture(path, kind=kind)
    small = image.resize((WIDTH, HEIGHT), Image.Resampling.BOX).convert("L")
    digest = hashlib.blake2b(image.tobytes() + bytes(str(image.size), "ascii")).digest()
    return _Picture(path, None, kind, digest, np.asarray(small).reshape(-1))


def _find_copies(
    findings: Findings, items: Sequence[_Item], pictures: Mapping[str, _Picture]
) -> None:
    """Find equal pictures: of two identities, in train and in a test, or twice in a split."""
    copies: dict[bytes, dict[int, str]] = defaultdict(dict)
    for index, item in enumerate(items):
        for frame in _some(item.record):
            if digest := pictures[frame].digest:
                copies[digest].setdefault(index, frame)
    for found in (found for found in copies.values() if len(found) > 1):
        members = [(items[index], frame) for index, frame in found.items()]
        case = " = ".join(f"{frame} ({item.part}, {item.identity})" for item, frame in members)
        parts = [item.part for item, _ in members]
        if len({item.identity for item, _ in members}) > 1:
            findings.add(TWO_IDENTITIES, case)
        elif "train" in parts and {*parts} != {"train"}:
            findings.add(TRAINED, case)
        elif len({*parts}) < len(parts):
            findings.add(AGAIN, case)


def _find_own_pictures(
    findings: Findings,
    split: EvalSplit,
    columns: Sequence[str],
    pictures: Mapping[str, _Picture],
) -> None:
    """Find matches that look like the query itself: equal, saved again, or in another size."""
    sides = []
    for records in (split.query, split.gallery):
        found = [
            (i, small) for i, record in enumerate(records) for small in _small(record, pictures)
        ]
        vectors = np.array([small for _, small in found], np.float32).reshape(-1, HEIGHT * WIDTH)
        vectors -= vectors.mean(axis=1, keepdims=True)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6
        sides.append((np.array([i for i, _ in found], np.int64), records, vectors))
    (query_of, queries, query), (item_of, gallery, item) = sides
    by_identity = defaultdict(list)
    for row, index in enumerate(item_of.tolist()):
        by_identity[gallery[index].identity].append(row)
    similar: dict[tuple[int, int], float] = {}
    for row, index in enumerate(query_of.tolist()):
        rows = by_identity.get(queries[index].identity, [])
        cosines = item[rows] @ query[row]
        for place in np.flatnonzero(cosines >= NEAR):
            pair = index, int(item_of[rows[place]])
            similar[pair] = max(similar.get(pair, 0.0), float(cosines[place]))
    for q, g in matches(split, list(similar), columns):
        case = f"{record_path(queries[q])} = {record_path(gallery[g])}"
        findings.add(OWN, f"{case} (correlation {similar[q, g]:.3f})")


def _small(record: Record, pictures: Mapping[str, _Picture]) -> Iterator[npt.NDArray[np.uint8]]:
    for frame in _some(record):
        if (small := pictures[frame].small) is not None:
            yield small


def reader_notes(source: Source) -> list[str]:
    """The reader's notes, without what is a mistake here."""
    problems = {
        "; ".join(p) for p in (untrainable(source), without_match(source.test, source.columns)) if p
    }
    return [note for note in source.notes if note not in problems]
