"""DeepChange (Xu and Zhu, ICCV 2023): five folders of images with a list for each.

A line is ``P<person>_C<camera>_<day>_….jpg,<tracklet>``. As in Simple-CCReID, the clothes label is
the person's day (a pseudo label) and the camera is the tracklet: only the query's tracklet is
excluded from its ranking, other tracklets of the same camera count.
"""

import os
import re
from pathlib import Path

from ffreid.engine.dataset_files import describe_folder, find_folder
from ffreid.errors import UserError
from ffreid.reid.data.readers.files import find_listed, first_few, match_names, read_list
from ffreid.reid.data.readers.relabel import RawRecord, eval_split, make_source
from ffreid.reid.data.records import Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import GENERAL

TREE = DATASETS["deepchange"].tree
FOLDER_NAMES = ("DeepChangeDataset", "DeepChange", "deepchange")
PARTS = ("train-set", "test-set-query", "test-set-gallery", "val-set-query", "val-set-gallery")
LINE = re.compile(r"((P(\d+))_C\d+_(\d+)_[^,]*),\s*(\d+)\s*$")


def read(root: Path, *, skip_broken: bool = False) -> Source:
    """Read DeepChange, in the order of its lists; `skip_broken` keeps files that are missing."""
    lists = tuple(f"{part}-bbox.txt" for part in PARTS)
    folder = find_folder(root, FOLDER_NAMES, (*PARTS, *lists), TREE)
    missing: list[str] = []
    train, query, gallery, val_query, val_gallery = (
        _records(folder, part, missing, skip_broken=skip_broken) for part in PARTS
    )
    return make_source(
        "deepchange",
        folder,
        train,
        {"test": query + gallery, "val": val_query + val_gallery},
        eval_split(query, gallery, (GENERAL,)),
        val=eval_split(val_query, val_gallery, (GENERAL,)),
        notes=(
            "clothes labels are recording days and cameras are tracklets: matches of the query's "
            "camera count, except those of its tracklet",
            *([f"missing: {first_few(missing, 'file')}"] if missing else []),
        ),
    )


def _records(folder: Path, part: str, missing: list[str], *, skip_broken: bool) -> list[RawRecord]:
    path = folder / f"{part}-bbox.txt"
    if part == PARTS[0] and not (os.path.lexists(folder / part) or os.path.lexists(path)):
        return []  # an evaluation needs none
    if not (folder / part).is_dir():
        raise UserError(
            f"no folder {folder / part}: {folder}: {describe_folder(folder)}", f"expected {TREE}"
        )
    lines = read_list(path, TREE, "image")
    matches = match_names(path, lines, LINE, "P1_C12_20200102_08_49586_0.jpg,1")
    listed = [f"{part}/{match[1]}" for match in matches]
    files, lost = find_listed(folder, listed, path, skip_broken=skip_broken)
    missing += lost
    return [
        RawRecord((file,), match[3], int(match[5]), match[2] + match[4])
        for file, match in zip(files, matches, strict=True)
    ]
