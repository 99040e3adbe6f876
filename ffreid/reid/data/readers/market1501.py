"""Market-1501 (Zheng et al., ICCV 2015), no clothes: ``<person>_c<camera>s<sequence>_….jpg``.

Other datasets with such names are read too: any number of digits, no sequence, other suffixes.
"""

import re
from pathlib import Path

from ffreid.engine.dataset_files import find_folder
from ffreid.reid.data.readers.files import ImageFinder
from ffreid.reid.data.readers.relabel import (
    JUNK,
    NO_CLOTHES,
    RawRecord,
    eval_split,
    make_source,
    number_from_1,
)
from ffreid.reid.data.records import Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import GENERAL

TREE = DATASETS["market1501"].tree
FOLDER_NAMES = ("Market-1501-v15.09.15", "Market-1501", "Market1501", "market1501")
PARTS = ("bounding_box_train", "query", "bounding_box_test")
NAME = re.compile(r"(-1|\d{1,9})_c(\d{1,9})(?!\d)")


def read(root: Path, *, skip_broken: bool = False) -> Source:
    """Read Market-1501 without ``-1`` (bad boxes); ``0000`` are distractors in the gallery."""
    folder = find_folder(root, FOLDER_NAMES, PARTS, TREE)
    finder = ImageFinder(folder, TREE, skip_broken=skip_broken)
    train, query, gallery = (
        [
            RawRecord((path,), match[1], int(match[2]) - 1, match[1])
            for path, match in finder.match(part, NAME, "0002_c1s1_000451_03.jpg")
            if match[1] != JUNK
        ]
        for part in PARTS
    )
    return make_source(
        "market1501",
        folder,
        train,
        {"query": query, "bounding_box_test": gallery},
        eval_split(query, gallery, (GENERAL,), camera_name=number_from_1),
        columns=("camera",),
        notes=(NO_CLOTHES, *finder.notes()),
    )
