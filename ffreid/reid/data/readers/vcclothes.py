"""VC-Clothes (Wan et al., CVPR workshops 2020): ``<person>-<camera>-<clothes>-<image>.jpg``.

The paper's same-clothes and clothes-changing rows are the general protocol between two cameras.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ffreid.engine.dataset_files import find_folder
from ffreid.errors import UserError
from ffreid.reid.data.readers.files import ImageFinder
from ffreid.reid.data.readers.relabel import RawRecord, eval_split, make_source, number_from_1
from ffreid.reid.data.records import Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import GENERAL, STANDARD, Protocol, between

TREE = DATASETS["vcclothes"].tree
FOLDER_NAMES = ("VC-Clothes", "VC-clothes", "VC_Clothes", "VCClothes", "vc-clothes", "vcclothes")
NAME = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)")
PAIRS = {
    "vcclothes_sc": ("SC (cameras 2 and 3)", (1, 2)),
    "vcclothes_cc": ("CC (cameras 3 and 4)", (2, 3)),
}
"""Rows with two cameras, by the dataset's name; cameras from 0."""


def read(root: Path, *, skip_broken: bool = False) -> Source:
    """Read VC-Clothes with all four cameras, and the rows with two."""
    rows = (between(name, cameras, cameras) for name, cameras in PAIRS.values())
    return _read(root, "vcclothes", range(4), (*STANDARD, *rows), skip_broken)


def _read_pair(name: str, root: Path, *, skip_broken: bool = False) -> Source:
    """Read VC-Clothes with test images of two cameras only."""
    row, cameras = PAIRS[name]
    return _read(root, name, cameras, (replace(GENERAL, name=row),), skip_broken)


read_same_clothes = partial(_read_pair, "vcclothes_sc")
read_changed_clothes = partial(_read_pair, "vcclothes_cc")


def _read(
    root: Path, name: str, cameras: Sequence[int], rows: Sequence[Protocol], skip_broken: bool
) -> Source:
    folder = find_folder(root, FOLDER_NAMES, ("train", "query", "gallery"), TREE)
    finder = ImageFinder(folder, TREE, skip_broken=skip_broken)
    train, query, gallery = (
        [
            RawRecord((path,), match[1], int(match[2]) - 1, match[1] + match[3])
            for path, match in finder.match(part, NAME, "0300-01-02-12.jpg")
        ]
        for part in ("train", "query", "gallery")
    )
    evaluated = {"query": query, "gallery": gallery}
    selected = [[r for r in records if r.camera in cameras] for records in evaluated.values()]
    for part, records in zip(evaluated, selected, strict=True):
        if not records:
            numbers = ", ".join(str(camera + 1) for camera in cameras)
            raise UserError(
                f"{folder / part} contains no image of the cameras {numbers}", f"expected {TREE}"
            )
    test = eval_split(selected[0], selected[1], rows, camera_name=number_from_1)
    return make_source(name, folder, train, evaluated, test, notes=finder.notes())
