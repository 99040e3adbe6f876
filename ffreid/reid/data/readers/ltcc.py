"""LTCC (Qian et al., ACCV 2020): ``<person>_<outfit>_c<camera>_<picture>.png`` in three folders."""

import re
from pathlib import Path

from ffreid.engine.dataset_files import find_folder, read_lines
from ffreid.errors import UserError
from ffreid.reid.data.readers.files import list_images, match_names
from ffreid.reid.data.readers.relabel import RawRecord, check_disjoint, eval_split, relabel
from ffreid.reid.data.records import Source
from ffreid.reid.defaults import TREES
from ffreid.reid.retrieval.protocols import CLOTHES_CHANGING, STANDARD, Protocol, on_identities

TREE = TREES["ltcc"]
FOLDER_NAMES = ("LTCC_ReID", "LTCC-ReID", "LTCC", "ltcc")
NAME = re.compile(r"(\d+)_(\d+)_c(\d+)")
CLOTHES_CHANGING_LIST = "info/cloth-change_id_test.txt"


def read(root: Path) -> Source:
    """Read LTCC.

    Raises:
        UserError: a folder is missing or empty, a name doesn't parse, splits share an identity.
    """
    folder = find_folder(root, FOLDER_NAMES, ("train", "query", "test"), TREE)
    train, query, gallery = (_items(folder, part) for part in ("train", "query", "test"))
    check_disjoint(
        train, {"query": query, "test": gallery}, f"unpack {folder} again: LTCC parts identities"
    )
    records, identities, clothes = relabel(train)
    protocols, notes = _protocols(folder)
    return Source(
        name="ltcc",
        folder=folder,
        video=False,
        train=records,
        identities=identities,
        clothes=clothes,
        test=eval_split(query, gallery, protocols),
        notes=notes,
    )


def _items(folder: Path, part: str) -> list[RawRecord]:
    paths = list_images(folder, part, TREE, suffixes=(".png",))
    matches = match_names(folder / part, paths, NAME, "094_1_c9_015833.png")
    return [
        RawRecord((path,), match[1], int(match[3]) - 1, f"{match[1]}_{match[2]}")
        for path, match in zip(paths, matches, strict=True)
    ]


def _protocols(folder: Path) -> tuple[tuple[Protocol, ...], tuple[str, ...]]:
    path = folder / CLOTHES_CHANGING_LIST
    if not path.is_file():
        return STANDARD, (f"no {CLOTHES_CHANGING_LIST}: no row on the identities listed there",)
    listed = [token for line in read_lines(path, "identity") for token in line.split()]
    wrong = [token for token in listed if not token.isdecimal()]
    if wrong:
        raise UserError(f"{path}: {wrong[0]!r} is no identity", "write a number a line: 3")
    row = on_identities(CLOTHES_CHANGING, "CC, listed identities", map(int, listed))
    return (*STANDARD, row), (
        f"'CC' is of all test identities, as published; {row.name!r} of those in "
        f"{CLOTHES_CHANGING_LIST}",
    )
