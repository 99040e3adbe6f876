"""Market-1501 (Zheng et al., ICCV 2015): ``<person>_c<camera>s<sequence>_….jpg``, no outfits."""

import re
from pathlib import Path

from ffreid.engine.dataset_files import find_folder
from ffreid.reid.data.readers.files import list_images, match_names
from ffreid.reid.data.readers.relabel import (
    NO_CLOTHES,
    RawRecord,
    check_disjoint,
    eval_split,
    relabel,
)
from ffreid.reid.data.records import Source
from ffreid.reid.defaults import TREES
from ffreid.reid.retrieval.protocols import GENERAL

TREE = TREES["market1501"]
FOLDER_NAMES = ("Market-1501-v15.09.15", "Market-1501", "Market1501", "market1501")
PARTS = ("bounding_box_train", "query", "bounding_box_test")
NAME = re.compile(r"(-1|\d{4})_c(\d)s\d")
JUNK = "-1"


def read(root: Path) -> Source:
    """Read Market-1501: ``-1`` (bad boxes) is left out, ``0000`` distracts in the gallery.

    Raises:
        UserError: a folder is missing or empty, a name doesn't parse, splits share an identity.
    """
    folder = find_folder(root, FOLDER_NAMES, PARTS, TREE)
    train, query, gallery = (_items(folder, part) for part in PARTS)
    check_disjoint(
        train,
        {"query": query, "bounding_box_test": gallery},
        f"unpack {folder} again: Market-1501 parts identities",
    )
    records, identities, clothes = relabel(train)
    return Source(
        name="market1501",
        folder=folder,
        video=False,
        train=records,
        identities=identities,
        clothes=clothes,
        test=eval_split(query, gallery, (GENERAL,)),
        columns=("camera",),
        notes=(NO_CLOTHES,),
    )


def _items(folder: Path, part: str) -> list[RawRecord]:
    paths = list_images(folder, part, TREE, suffixes=(".jpg",))
    matches = match_names(folder / part, paths, NAME, "0002_c1s1_000451_03.jpg")
    return [
        RawRecord((path,), match[1], int(match[2]) - 1, match[1])
        for path, match in zip(paths, matches, strict=True)
        if match[1] != JUNK
    ]
