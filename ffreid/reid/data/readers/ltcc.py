"""LTCC (Qian et al., ACCV 2020): ``<person>_<clothes>_c<camera>_<image>.png`` in three folders."""

import os
import re
from pathlib import Path

from ffreid.engine.dataset_files import find_folder, read_lines
from ffreid.errors import UserError
from ffreid.reid.data.readers.files import ImageFinder
from ffreid.reid.data.readers.relabel import RawRecord, eval_split, make_source, number_from_1
from ffreid.reid.data.records import Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import CLOTHES_CHANGING, STANDARD, Protocol, on_identities

TREE = DATASETS["ltcc"].tree
FOLDER_NAMES = ("LTCC_ReID", "LTCC-ReID", "LTCC", "ltcc")
NAME = re.compile(r"(\d+)_(\d+)_c(\d+)")
LIST = "info/cloth-change_id_test.txt"


def read(root: Path, *, skip_broken: bool = False) -> Source:
    """Read LTCC."""
    folder = find_folder(root, FOLDER_NAMES, ("train", "query", "test"), TREE)
    finder = ImageFinder(folder, TREE, skip_broken=skip_broken)
    train, query, gallery = (
        [
            RawRecord((path,), match[1], int(match[3]) - 1, f"{match[1]}_{match[2]}")
            for path, match in finder.match(part, NAME, "094_1_c9_015833.png")
        ]
        for part in ("train", "query", "test")
    )
    protocols, notes = _protocols(folder)
    evaluated = {"query": query, "test": gallery}
    test = eval_split(query, gallery, protocols, camera_name=number_from_1)
    return make_source("ltcc", folder, train, evaluated, test, notes=(*notes, *finder.notes()))


def _protocols(folder: Path) -> tuple[tuple[Protocol, ...], tuple[str, ...]]:
    path = folder / LIST
    if not os.path.lexists(path):
        return STANDARD, (f"no {LIST}: the protocol 'CC, listed identities' is not evaluated",)
    listed = [token for line in read_lines(path, "identity") for token in line.split()]
    wrong = [token for token in listed if not token.isdecimal() or len(token) > 18]
    if wrong:
        raise UserError(f"{path}: {wrong[0]!r} is not an identity", "write one number per line: 3")
    row = on_identities(CLOTHES_CHANGING, "CC, listed identities", map(int, listed))
    note = f"'CC' covers all test identities, as published; {row.name!r} only those in {LIST}"
    return (*STANDARD, row), (note,)
