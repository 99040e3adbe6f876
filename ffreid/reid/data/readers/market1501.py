"""Market-1501 (Zheng et al., ICCV 2015): ``<person>_c<camera>s<sequence>_….jpg``, no clothes."""

import re
from pathlib import Path

from ffreid.engine.dataset_files import find_folder
from ffreid.reid.data.readers.files import match_images
from ffreid.reid.data.readers.relabel import NO_CLOTHES, RawRecord, eval_split, make_source
from ffreid.reid.data.records import Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import GENERAL

TREE = DATASETS["market1501"].tree
FOLDER_NAMES = ("Market-1501-v15.09.15", "Market-1501", "Market1501", "market1501")
PARTS = ("bounding_box_train", "query", "bounding_box_test")
NAME = re.compile(r"(-1|\d{4})_c(\d)s\d")
JUNK = "-1"


def read(root: Path) -> Source:
    """Read Market-1501 without ``-1`` (bad boxes); ``0000`` are distractors in the gallery."""
    folder = find_folder(root, FOLDER_NAMES, PARTS, TREE)
    train, query, gallery = (
        [
            RawRecord((path,), match[1], int(match[2]) - 1, match[1])
            for path, match in match_images(folder, part, TREE, NAME, "0002_c1s1_000451_03.jpg")
            if match[1] != JUNK
        ]
        for part in PARTS
    )
    return make_source(
        "market1501",
        folder,
        train,
        {"query": query, "bounding_box_test": gallery},
        eval_split(query, gallery, (GENERAL,)),
        columns=("camera",),
        notes=(NO_CLOTHES,),
    )
