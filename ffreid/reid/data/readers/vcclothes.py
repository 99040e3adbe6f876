"""VC-Clothes (Wan et al., CVPR workshops 2020): ``<person>-<camera>-<outfit>-<picture>.jpg``.

The paper's same-clothes and clothes-changing rows are the general rule between two cameras.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ffreid.engine.dataset_files import find_folder
from ffreid.errors import UserError
from ffreid.reid.data.readers.files import list_images, match_names
from ffreid.reid.data.readers.relabel import RawRecord, check_disjoint, eval_split, relabel
from ffreid.reid.data.records import Source
from ffreid.reid.defaults import TREES
from ffreid.reid.retrieval.protocols import GENERAL, STANDARD, Protocol, between

TREE = TREES["vcclothes"]
FOLDER_NAMES = ("VC-Clothes", "VC-clothes", "VC_Clothes", "VCClothes", "vc-clothes", "vcclothes")
NAME = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)")
PAIRS = {
    "vcclothes_sc": ("SC (cameras 2 and 3)", (1, 2)),
    "vcclothes_cc": ("CC (cameras 3 and 4)", (2, 3)),
}
"""Rows of two cameras, by the data set's name; cameras from 0."""


def read(root: Path) -> Source:
    """Read VC-Clothes with all four cameras, and the rows of two besides.

    Raises:
        UserError: a folder is missing or empty, a name doesn't parse, splits share an identity.
    """
    rows = (between(name, cameras, cameras) for name, cameras in PAIRS.values())
    return _read(root, "vcclothes", range(4), (*STANDARD, *rows))


def read_same_clothes(root: Path) -> Source:
    """Read VC-Clothes with the test pictures of cameras 2 and 3 only; raises like `read`."""
    return _read_pair(root, "vcclothes_sc")


def read_changed_clothes(root: Path) -> Source:
    """Read VC-Clothes with the test pictures of cameras 3 and 4 only; raises like `read`."""
    return _read_pair(root, "vcclothes_cc")


def _read_pair(root: Path, name: str) -> Source:
    row, cameras = PAIRS[name]
    return _read(root, name, cameras, (replace(GENERAL, name=row),))


def _read(root: Path, name: str, cameras: Sequence[int], rows: Sequence[Protocol]) -> Source:
    folder = find_folder(root, FOLDER_NAMES, ("train", "query", "gallery"), TREE)
    train, query, gallery = (_items(folder, part) for part in ("train", "query", "gallery"))
    check_disjoint(
        train,
        {"query": query, "gallery": gallery},
        f"unpack {folder} again: VC-Clothes parts identities",
    )
    records, identities, clothes = relabel(train)
    return Source(
        name=name,
        folder=folder,
        video=False,
        train=records,
        identities=identities,
        clothes=clothes,
        test=eval_split(
            _seen_by(cameras, query, folder / "query"),
            _seen_by(cameras, gallery, folder / "gallery"),
            rows,
        ),
    )


def _items(folder: Path, part: str) -> list[RawRecord]:
    paths = list_images(folder, part, TREE, suffixes=(".jpg",))
    matches = match_names(folder / part, paths, NAME, "0300-01-02-12.jpg")
    return [
        RawRecord((path,), match[1], int(match[2]) - 1, match[1] + match[3])
        for path, match in zip(paths, matches, strict=True)
    ]


def _seen_by(cameras: Sequence[int], items: Sequence[RawRecord], home: Path) -> list[RawRecord]:
    kept = [item for item in items if item.camera in cameras]
    if not kept:
        numbers = ", ".join(str(camera + 1) for camera in cameras)
        raise UserError(f"{home} holds no picture of the cameras {numbers}", f"expected {TREE}")
    return kept
