"""``ffreid data --show`` of the re-ID task: identities, and a batch as the network gets it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from yacs.config import CfgNode

from ffreid.engine.colours import class_colour
from ffreid.engine.dataset_files import write_images
from ffreid.reid import build
from ffreid.reid.data.batch import Sample
from ffreid.reid.data.records import Record, Source, own_names
from ffreid.reid.data.transforms import DEVIATION, MEAN
from ffreid.reid.sources import open_source
from ffreid.reid.visualization import (
    GAP,
    LINE,
    QUERY,
    ImageArray,
    background,
    draw_sheet,
    draw_tile,
    read_record,
    write_lines,
)

ROWS, COLUMNS = 10, 12
"""Identities of a sheet, and their pictures."""
BATCH, ACROSS = 32, 8
"""Samples of the drawn batch at most, and of its rows (of clips one)."""


class _Person(NamedTuple):
    """An identity of a part of the dataset, with its queries and other records."""

    name: str
    queries: list[Record]
    others: list[Record]


def draw_samples(cfg: CfgNode, count: int, folder: Path) -> list[str]:
    """Draw in `folder`; return the names of the images.

    Sheets of `count` identities of train and of query and gallery, with outfits (by colour) and
    cameras, and the first training batch as the network gets it, augmented.
    """
    source = open_source(cfg)
    names: list[str] = []

    def images() -> Iterator[tuple[str, ImageArray]]:
        for part, persons in _persons(source).items():
            chosen = [persons[i * len(persons) // count] for i in range(min(count, len(persons)))]
            for number, start in enumerate(range(0, len(chosen), ROWS)):
                rows = [
                    _draw_person(source, part, person) for person in chosen[start : start + ROWS]
                ]
                names.append(f"{part}-{number:02d}.png")
                yield names[-1], draw_sheet(rows)
        if source.train:
            names.append("batch.png")
            yield names[-1], _draw_batch(cfg, source)

    write_images(folder, images())
    return names


def _persons(source: Source) -> dict[str, list[_Person]]:
    train: dict[int, list[Record]] = defaultdict(list)
    for record in source.train:
        train[record.identity].append(record)
    test: dict[int, tuple[list[Record], list[Record]]] = defaultdict(lambda: ([], []))
    for place, records in enumerate((source.test.query, source.test.gallery)):
        for record in records:
            test[record.identity][place].append(record)
    names = source.test.names.get("identity", {})
    asked = [
        _Person(names.get(identity, str(identity)), *parts)
        for identity, parts in test.items()
        if parts[0]
    ]
    trained = [
        _Person(source.identities[identity], [], records) for identity, records in train.items()
    ]
    return {"train": trained, "test": asked} if trained else {"test": asked}


def _draw_person(source: Source, part: str, person: _Person) -> ImageArray:
    """A row of pictures of all outfits and cameras, as far as there is space, queries first."""
    outfits = {r.clothes: None for r in sorted((*person.queries, *person.others), key=_clothes)}
    colours = {clothes: class_colour(number) for number, clothes in enumerate(outfits)}
    cameras = {record.camera for record in (*person.queries, *person.others)}
    queries = _varied(person.queries, COLUMNS // 3)
    others = _varied(person.others, COLUMNS - len(queries))
    tiles = []
    for record in (*queries, *others):
        is_query = record in queries
        lines = [f"{column} {name}" for column, name in _labels(source, part, record).items()]
        tiles.append(
            draw_tile(
                read_record(source, record),
                QUERY if is_query else colours[record.clothes],
                "\n".join(["query"] * is_query + lines),
            )
        )
    counts = [
        f"{len(person.queries) + len(person.others)} {'tracklets' if source.video else 'images'}"
    ]
    counts += [f"{len(outfits)} clothes"] * ("clothes" in source.columns)
    counts += [f"{len(cameras)} cameras"] * ("camera" in source.columns)
    return _row(tiles, f"{part}, identity {person.name}: {', '.join(counts)}")


def _varied(records: Sequence[Record], count: int) -> list[Record]:
    """Choose `count` records of as many outfits, and of as many cameras, as there are."""
    outfits: dict[int, list[Record]] = defaultdict(list)
    seen: Counter[tuple[int, int]] = Counter()
    turns = []
    for record in records:
        key = record.clothes, record.camera
        turns.append((seen[key], record))
        seen[key] += 1
    for _, record in sorted(turns, key=lambda turn: turn[0]):
        outfits[record.clothes].append(record)
    ranked: list[tuple[int, Record]] = []
    for number, group in enumerate(outfits.values()):
        start = number % len(group)  # begin each outfit with another camera
        ranked += enumerate(group[start:] + group[:start])
    chosen = [record for _, record in sorted(ranked, key=lambda turn: turn[0])][:count]
    return sorted(chosen, key=lambda record: (record.clothes, record.camera))


def _clothes(record: Record) -> int:
    return record.clothes


def _labels(source: Source, part: str, record: Record) -> dict[str, str]:
    names: Mapping[str, Mapping[int, str]] = source.test.names
    numbers = {name: getattr(record, name) for name in source.columns}
    if part == "train":
        names = {**names, "clothes": dict(enumerate(source.clothes))}
    return own_names(names, numbers)


def _draw_batch(cfg: CfgNode, source: Source) -> ImageArray:
    """The first samples of training, augmented and in the size of the network."""
    data = build.training_set(cfg, source)
    count = min(cfg.DATA.TRAIN_BATCH, BATCH, len(data))
    samples = [data[0, position] for position in range(count)]
    across = 1 if source.video else ACROSS
    rows = []
    for start in range(0, count, across):
        tiles = []
        for sample in samples[start : start + across]:
            label = f"identity {source.identities[sample.identity]}"
            label += f"\nclothes {source.clothes[sample.clothes]}"
            tiles += [
                draw_tile(frame, class_colour(sample.clothes), label) for frame in _frames(sample)
            ]
        rows.append(_row(tiles, ""))
    size = f"{cfg.DATA.HEIGHT} x {cfg.DATA.WIDTH} pixels"
    title = f"first {count} samples of training, augmented, as the network gets them: {size}"
    return draw_sheet([_row([], title), *rows])


def _frames(sample: Sample) -> Iterator[ImageArray]:
    """Images (H, W, 3) uint8 of a normalised image or clip."""
    images = sample.images.numpy()
    images = images[:, None] if images.ndim == 3 else images
    for frame in images.transpose(1, 2, 3, 0):
        yield np.rint(255 * (frame * DEVIATION + MEAN)).clip(0, 255).astype(np.uint8)


def _row(tiles: Sequence[ImageArray], title: str) -> ImageArray:
    height = max((len(tile) for tile in tiles), default=GAP)
    columns = [background(height, GAP)]
    for tile in tiles:
        filling = background(height - len(tile), tile.shape[1])
        columns += [np.concatenate([tile, filling]), background(height, GAP)]
    row = np.concatenate(columns, axis=1)
    if not title:
        return row
    head = background(LINE + GAP, max(row.shape[1], 900))
    write_lines(head, [title], 0)
    return draw_sheet([head, row])
