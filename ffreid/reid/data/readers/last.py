"""LaST (Shu et al., TCSVT 2021): film stills without cameras, outfits known in training only."""

import re
from collections.abc import Sequence
from pathlib import Path

from ffreid.engine.dataset_files import find_folder
from ffreid.reid.data.readers.files import list_images, match_names
from ffreid.reid.data.readers.relabel import RawRecord, check_disjoint, relabel
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.defaults import TREES
from ffreid.reid.retrieval.protocols import GENERAL

TREE = TREES["last"]
FOLDER_NAMES = ("last", "LaST", "LAST")
TRAIN_NAME = re.compile(r"(\d+)_(?:[^.]*_)?([^_.]+)(?:\.|$)")
TEST_NAME = re.compile(r"(\d+)(?:[_.]|$)")


def read(root: Path) -> Source:
    """Read LaST.

    Every picture is a camera of its own, so none is left out of a ranking; in the searches the
    outfit's number is the identity's.

    Raises:
        UserError: a folder is missing or empty, a name doesn't parse, splits share an identity.
    """
    folder = find_folder(root, FOLDER_NAMES, ("train", "val", "test"), TREE)
    train = _training_items(folder)
    searched = {part: _items(folder, part) for part in ("val", "test")}
    others = {part: query + gallery for part, (query, gallery) in searched.items()}
    check_disjoint(train, others, f"unpack {folder} again: LaST parts identities")
    records, identities, clothes = relabel(train)
    return Source(
        name="last",
        folder=folder,
        video=False,
        train=records,
        identities=identities,
        clothes=clothes,
        test=_search(*searched["test"]),
        val=_search(*searched["val"]),
        notes=("LaST knows no cameras: every picture counts as one, none is left out as too near",),
    )


def _training_items(folder: Path) -> list[RawRecord]:
    paths = list_images(folder, "train", TREE, suffixes=(".jpg",), nested=True)
    matches = match_names(folder / "train", paths, TRAIN_NAME, "000000_068_03880_0.jpg")
    return [
        RawRecord((path,), match[1], index, f"{match[1]}_{match[2]}")
        for index, (path, match) in enumerate(zip(paths, matches, strict=True))
    ]


def _items(folder: Path, part: str) -> tuple[list[RawRecord], list[RawRecord]]:
    """Query and gallery; cameras count on through both."""
    items: list[list[RawRecord]] = []
    for name, nested in (("query", False), ("gallery", True)):
        home = f"{part}/{name}"
        paths = list_images(folder, home, TREE, suffixes=(".jpg",), nested=nested)
        matches = match_names(folder / home, paths, TEST_NAME, "005100_187_01251.jpg")
        start = sum(map(len, items))
        items.append(
            [
                RawRecord((path,), match[1], index, match[1])
                for index, (path, match) in enumerate(zip(paths, matches, strict=True), start)
            ]
        )
    return items[0], items[1]


def _search(query: Sequence[RawRecord], gallery: Sequence[RawRecord]) -> EvalSplit:
    return EvalSplit(query=_records(query), gallery=_records(gallery), protocols=(GENERAL,))


def _records(items: Sequence[RawRecord]) -> tuple[Record, ...]:
    return tuple(Record(i.frames, int(i.identity), i.camera, int(i.identity)) for i in items)
