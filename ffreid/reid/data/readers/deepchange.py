"""DeepChange (Xu and Zhu, ICCV 2023): five folders of pictures with a list beside each.

A line is ``P<person>_C<camera>_<day>_….jpg,<tracklet>``. As in the original, the outfit is the
person's day (a pseudo label) and the camera is the tracklet: only its own tracklet is left out of
a query's ranking, other tracklets of the same camera count.
"""

import re
from pathlib import Path

from ffreid.engine.dataset_files import describe_folder, find_folder
from ffreid.errors import UserError
from ffreid.reid.data.readers.files import check_exist, first_few, match_names, read_list
from ffreid.reid.data.readers.relabel import RawRecord, check_disjoint, eval_split, relabel
from ffreid.reid.data.records import Source
from ffreid.reid.defaults import TREES
from ffreid.reid.retrieval.protocols import GENERAL

TREE = TREES["deepchange"]
FOLDER_NAMES = ("DeepChangeDataset", "DeepChange", "deepchange")
PARTS = ("train-set", "test-set-query", "test-set-gallery", "val-set-query", "val-set-gallery")
LINE = re.compile(r"((P(\d+))_C\d+_(\d+)_[^,]*),\s*(\d+)\s*$")


def read(root: Path, *, skip_broken: bool = False) -> Source:
    """Read DeepChange, in the order of its lists.

    Args:
        root: its folder, or the one that holds it.
        skip_broken: keep listed files that are missing, and say how many.

    Raises:
        UserError: a folder, list or listed file is missing, a line doesn't parse, splits share an
            identity.
    """
    lists = tuple(f"{part}-bbox.txt" for part in PARTS)
    folder = find_folder(root, FOLDER_NAMES, (*PARTS, *lists), TREE)
    absent: list[str] = []
    train, query, gallery, val_query, val_gallery = (
        _items(folder, part, absent, skip_broken=skip_broken) for part in PARTS
    )
    check_disjoint(
        train,
        {"test": query + gallery, "val": val_query + val_gallery},
        f"unpack {folder} again: DeepChange parts identities",
    )
    records, identities, clothes = relabel(train)
    return Source(
        name="deepchange",
        folder=folder,
        video=False,
        train=records,
        identities=identities,
        clothes=clothes,
        test=eval_split(query, gallery, (GENERAL,)),
        val=eval_split(val_query, val_gallery, (GENERAL,)),
        notes=(
            "outfits are a person's days, cameras are tracklets: matches of a query's own camera "
            "count unless they are of its tracklet",
            *([f"missing: {first_few(absent, 'file')}"] if absent else []),
        ),
    )


def _items(folder: Path, part: str, absent: list[str], *, skip_broken: bool) -> list[RawRecord]:
    path = folder / f"{part}-bbox.txt"
    if not (folder / part).is_dir():
        raise UserError(
            f"no folder {folder / part}: {folder}: {describe_folder(folder)}", f"expected {TREE}"
        )
    lines = read_list(path, TREE, "picture")
    matches = match_names(path, lines, LINE, "P1_C12_20200102_08_49586_0.jpg,1")
    files = [f"{part}/{match[1]}" for match in matches]
    absent += check_exist(folder, files, path, skip_broken=skip_broken)
    return [
        RawRecord((file,), match[3], int(match[5]), match[2] + match[4])
        for file, match in zip(files, matches, strict=True)
    ]
