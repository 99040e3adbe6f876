"""LaST (Shu et al., TCSVT 2021): film stills without cameras; clothes only in training."""

import re
from pathlib import Path

from ffreid.engine.dataset_files import find_folder
from ffreid.reid.data.readers.files import ImageFinder
from ffreid.reid.data.readers.relabel import RawRecord, label_names, make_source
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import GENERAL

TREE = DATASETS["last"].tree
FOLDER_NAMES = ("last", "LaST", "LAST")
TRAIN_NAME = re.compile(r"(\d+)_(?:[^.]*_)?([^_.]+)(?:\.|$)")
TEST_NAME = re.compile(r"(\d+)(?:[_.]|$)")


def read(root: Path, *, skip_broken: bool = False) -> Source:
    """Read LaST.

    Each image has its own camera, so none is excluded from a ranking; in evaluation the clothes
    label is the identity.
    """
    folder = find_folder(root, FOLDER_NAMES, ("train", "val", "test"), TREE)
    finder = ImageFinder(folder, TREE, skip_broken=skip_broken)
    train_images = finder.match("train", TRAIN_NAME, "000000_068_03880_0.jpg", nested=True)
    train = [
        RawRecord((path,), match[1], index, f"{match[1]}_{match[2]}")
        for index, (path, match) in enumerate(train_images)
    ]
    evaluated, splits = {}, {}
    for part in ("val", "test"):
        query, gallery = (
            finder.match(f"{part}/{name}", TEST_NAME, "005100_187_01251.jpg", nested=nested)
            for name, nested in (("query", False), ("gallery", True))
        )
        evaluated[part] = [
            RawRecord((path,), match[1], index, match[1])
            for index, (path, match) in enumerate((*query, *gallery))
        ]
        records = tuple(
            Record(r.frames, int(r.identity), r.camera, int(r.identity)) for r in evaluated[part]
        )
        splits[part] = EvalSplit(
            query=records[: len(query)],
            gallery=records[len(query) :],
            protocols=(GENERAL,),
            names=label_names(evaluated[part], records, lambda camera: "")
            | {"clothes": dict.fromkeys((r.clothes for r in records), "")},
        )
    return make_source(
        "last",
        folder,
        train,
        evaluated,
        splits["test"],
        val=splits["val"],
        notes=("LaST has no camera labels: no image is excluded from a ranking", *finder.notes()),
    )
