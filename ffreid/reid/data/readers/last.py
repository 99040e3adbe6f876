"""LaST (Shu et al., TCSVT 2021): film stills without cameras; clothes only in training."""

import re
from collections.abc import Sequence
from pathlib import Path

from ffreid.engine.dataset_files import find_folder
from ffreid.reid.data.readers.files import match_images
from ffreid.reid.data.readers.relabel import RawRecord, make_source
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import GENERAL

TREE = DATASETS["last"].tree
FOLDER_NAMES = ("last", "LaST", "LAST")
TRAIN_NAME = re.compile(r"(\d+)_(?:[^.]*_)?([^_.]+)(?:\.|$)")
TEST_NAME = re.compile(r"(\d+)(?:[_.]|$)")


def read(root: Path) -> Source:
    """Read LaST.

    Each image has its own camera, so none is excluded from a ranking; in evaluation the clothes
    label is the identity.
    """
    folder = find_folder(root, FOLDER_NAMES, ("train", "val", "test"), TREE)
    train_images = match_images(
        folder, "train", TREE, TRAIN_NAME, "000000_068_03880_0.jpg", nested=True
    )
    train = [
        RawRecord((path,), match[1], index, f"{match[1]}_{match[2]}")
        for index, (path, match) in enumerate(train_images)
    ]
    val, test = (_query_and_gallery(folder, part) for part in ("val", "test"))
    return make_source(
        "last",
        folder,
        train,
        {"val": [*val[0], *val[1]], "test": [*test[0], *test[1]]},
        _eval_split(*test),
        val=_eval_split(*val),
        notes=("LaST has no cameras: each image has its own, so none is excluded from a ranking",),
    )


def _query_and_gallery(folder: Path, part: str) -> tuple[list[RawRecord], list[RawRecord]]:
    """Query and gallery; their cameras are numbered consecutively."""
    query, gallery = (
        match_images(
            folder, f"{part}/{name}", TREE, TEST_NAME, "005100_187_01251.jpg", nested=nested
        )
        for name, nested in (("query", False), ("gallery", True))
    )
    records = [
        RawRecord((path,), match[1], index, match[1])
        for index, (path, match) in enumerate((*query, *gallery))
    ]
    return records[: len(query)], records[len(query) :]


def _eval_split(query: Sequence[RawRecord], gallery: Sequence[RawRecord]) -> EvalSplit:
    return EvalSplit(query=_records(query), gallery=_records(gallery), protocols=(GENERAL,))


def _records(records: Sequence[RawRecord]) -> tuple[Record, ...]:
    return tuple(Record(r.frames, int(r.identity), r.camera, int(r.identity)) for r in records)
