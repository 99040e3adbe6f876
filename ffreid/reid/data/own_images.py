"""Images that are in the gallery or in train as well, where they spoil a result."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from ffreid.reid.data.readers.files import examine
from ffreid.reid.data.records import EvalSplit, Record, Source, labels, record_path
from ffreid.reid.retrieval.protocols import filter_mask, is_match

MOST_READ = 2000
"""Files that are compared by their contents for a report."""


class _File(NamedTuple):
    """A file of a record, with its size in bytes and its number, see `examine`."""

    record: int
    identity: int
    path: str
    size: int
    number: int


def own_images(split: EvalSplit, source: Source, *, most_read: float = math.inf) -> dict[str, str]:
    """Find queries with a gallery item of the same file or content that counts as a match.

    Only files of one identity and of equal size are read, and at most `most_read`. Of tracklets the
    first, middle and last frame are compared, one is enough. Returns the paths of the queries, each
    with that of its first such item.
    """
    asked = {record.identity for record in split.query}
    by_number, by_size = defaultdict(list), defaultdict(list)
    for file in _files(source.folder, split.gallery, asked):
        by_number[file.identity, file.number].append(file)
        by_size[file.identity, file.size].append(file)

    digest, is_left = _digests(source.folder, most_read)
    pairs: dict[tuple[int, int], None] = {}
    for file in _files(source.folder, split.query, asked):
        same = by_number.get((file.identity, file.number), [])
        if file.size and is_left():
            equal = by_size.get((file.identity, file.size), ())
            others = [f for f in equal if f.number != file.number]
            same = same + [f for f in others if digest(f.path) == digest(file.path)]
        pairs |= dict.fromkeys((file.record, found.record) for found in same)
    found: dict[str, str] = {}
    for query, item in matches(split, list(pairs), source.columns):
        found.setdefault(record_path(split.query[query]), record_path(split.gallery[item]))
    return found


def own_image_notes(found: Mapping[str, str], queries: int, *, at_least: bool = False) -> list[str]:
    """A note on what `own_images` found among this number of queries, if anything."""
    if not found:
        return []
    query, item = next(iter(found.items()))
    return [
        f"{'at least ' * at_least}{len(found)} of {queries} queries find their own image in the "
        "gallery (copied, linked or listed again), which counts as a match: remove it there; the "
        f"first: {query} = {item}"
    ]


def seen_in_training(source: Source, *, most_read: float = MOST_READ) -> list[str]:
    """A note on query and gallery items of which a file is a training image as well, if any.

    Files of equal size are compared by content, first those of one name, until `most_read` are
    read.
    """
    if not source.train:
        return []
    by_number: dict[int, str] = {}
    equal: dict[object, list[str]] = defaultdict(list)
    for file in _files(source.folder, source.train):
        by_number[file.number] = file.path
        for key in _keys(file):
            equal[key].append(file.path)
    found: dict[int, str] = {}
    candidates = []
    records = (*source.test.query, *source.test.gallery)
    for file in _files(source.folder, records):
        if path := by_number.get(file.number):
            found[file.record] = path
        elif file.size in equal:
            candidates.append(file)
    digest, is_left = _digests(source.folder, most_read)
    for order in (0, 1):
        for file in candidates:
            if not is_left() or file.record in found:
                continue
            for path in equal.get(_keys(file)[order], ()):
                if is_left() and digest(path) == digest(file.path):
                    found[file.record] = path
                    break
    if not found:
        return []
    first = min(found)
    return [
        f"{'' if is_left() else 'at least '}{len(found)} of {len(records)} query and gallery "
        f"{'tracklets' if source.video else 'images'} are in train too (copied, linked or listed "
        f"again): remove them there; the first: {record_path(records[first])} = {found[first]}"
    ]


def _keys(file: _File) -> tuple[object, ...]:
    """What files of one content have in common: size and name, if it was copied; the size."""
    return (f"{file.size} {file.path.rpartition('/')[2]}", file.size) if file.size else ()


def _digests(folder: Path, most: float) -> tuple[Callable[[str], str], Callable[[], bool]]:
    """Digests of the contents of files, read once, and whether `most` are not yet read."""

    @cache
    def digest(path: str) -> str:
        try:
            with (folder / path).open("rb") as file:
                return hashlib.file_digest(file, "blake2b").hexdigest()
        except OSError:  # the evaluation reports it
            return path

    return digest, lambda: digest.cache_info().misses < most


def _files(
    folder: Path, records: Sequence[Record], asked: set[int] | None = None
) -> Iterator[_File]:
    """The existing files of the records, or of those of the identities `asked`."""
    frames = [
        (index, record.identity, path)
        for index, record in enumerate(records)
        if asked is None or record.identity in asked
        for path in {record.frames[i]: i for i in (0, len(record.frames) // 2, -1)}
    ]
    examined = examine(folder, [path for _, _, path in frames])
    for frame, file in zip(frames, examined, strict=True):
        if file:  # the evaluation reports others
            yield _File(*frame, *file)


def matches(
    split: EvalSplit, pairs: Sequence[tuple[int, int]], columns: Sequence[str]
) -> list[tuple[int, int]]:
    """Those pairs, indices of a query and a gallery item, that are matches under a protocol."""
    rows = labels([split.query[query] for query, _ in pairs], columns)
    items = labels([split.gallery[item] for _, item in pairs], columns)
    kept = torch.zeros(len(pairs), dtype=torch.bool)
    for p in split.protocols:
        if p.columns <= set(rows):
            takes_part = filter_mask(rows, p.queries) & filter_mask(items, p.gallery)
            kept |= takes_part & is_match(p, rows, items)
    return [pair for pair, is_kept in zip(pairs, kept.tolist(), strict=True) if is_kept]
