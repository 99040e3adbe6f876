"""Queries whose own image is in the gallery as well, where it would count as a match."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

from ffreid.reid.data.records import EvalSplit, Record, Source, labels, record_path
from ffreid.reid.retrieval.protocols import filter_mask, is_match

_CHUNK = 500  # files are examined in parallel, as network file systems answer slowly


class _File(NamedTuple):
    record: int
    path: str
    size: tuple[int, int]
    number: tuple[int, int, int]


def own_images(split: EvalSplit, source: Source, *, most_read: float = math.inf) -> dict[str, str]:
    """Find queries with a gallery item of the same file or content that counts as a match.

    Only files of one identity and of equal size are read, and at most `most_read`. Of tracklets the
    first, middle and last frame are compared, one is enough. Returns the paths of the queries, each
    with that of its first such item.
    """
    asked = {record.identity for record in split.query}
    by_number, by_size = defaultdict(list), defaultdict(list)
    for file in _files(source.folder, split.gallery, asked):
        by_number[file.number].append(file)
        by_size[file.size].append(file)

    digests: dict[str, str] = {}

    def digest(path: str) -> str:
        if path not in digests:
            try:
                with (source.folder / path).open("rb") as file:
                    digests[path] = hashlib.file_digest(file, "blake2b").hexdigest()
            except OSError:  # the evaluation reports it
                digests[path] = path
        return digests[path]

    pairs: dict[tuple[int, int], None] = {}
    for file in _files(source.folder, split.query, asked):
        same = by_number.get(file.number, [])
        if file.size[1] and len(digests) < most_read:
            others = [f for f in by_size.get(file.size, ()) if f.number != file.number]
            same = same + [f for f in others if digest(f.path) == digest(file.path)]
        pairs |= dict.fromkeys((file.record, found.record) for found in same)
    found: dict[str, str] = {}
    for query, item in _matches(split, list(pairs), source.columns):
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


def _files(folder: Path, records: Sequence[Record], asked: set[int]) -> Iterator[_File]:
    """The existing files of the records of the identities `asked`."""
    frames = [
        (index, record.identity, path)
        for index, record in enumerate(records)
        if record.identity in asked
        for path in {record.frames[i]: i for i in (0, len(record.frames) // 2, -1)}
    ]

    def examine(start: int) -> list[_File]:
        found = []
        for index, identity, path in frames[start : start + _CHUNK]:
            try:
                info = (folder / path).stat()
            except OSError:  # the evaluation reports it
                continue
            number = identity, info.st_dev, info.st_ino
            found.append(_File(index, path, (identity, info.st_size), number))
        return found

    with ThreadPoolExecutor(16) as pool:
        for part in pool.map(examine, range(0, len(frames), _CHUNK)):
            yield from part


def _matches(
    split: EvalSplit, pairs: Sequence[tuple[int, int]], columns: Sequence[str]
) -> list[tuple[int, int]]:
    """Those pairs of a query and a gallery item that are matches under a protocol."""
    rows = labels([split.query[query] for query, _ in pairs], columns)
    items = labels([split.gallery[item] for _, item in pairs], columns)
    kept = torch.zeros(len(pairs), dtype=torch.bool)
    for p in split.protocols:
        if p.columns <= set(rows):
            takes_part = filter_mask(rows, p.queries) & filter_mask(items, p.gallery)
            kept |= takes_part & is_match(p, rows, items)
    return [pair for pair, is_kept in zip(pairs, kept.tolist(), strict=True) if is_kept]
