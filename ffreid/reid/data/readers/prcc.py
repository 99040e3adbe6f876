"""PRCC (Yang et al., TPAMI 2021): cameras A and B see one outfit of a person, C another.

The gallery is camera A; queries of B wear the same clothes, queries of C others. The published
numbers are multi-shot, with all of A's pictures; the ten single-shot galleries are given beside.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

from ffreid.engine.dataset_files import find_folder
from ffreid.reid.data.readers.files import list_images, match_names
from ffreid.reid.data.readers.relabel import RawRecord, check_disjoint, relabel
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.defaults import TREES
from ffreid.reid.retrieval.protocols import between

TREE = TREES["prcc"]
FOLDER_NAMES = ("prcc", "PRCC")
CAMERAS = "ABC"
PERSON = re.compile(r"(\d+)$")
NAME = re.compile(r"([ABC])_")
PROTOCOLS = (between("SC", (1,), (0,)), between("CC", (2,), (0,)))
TRIALS, SEED = 10, 3


def read(root: Path) -> Source:
    """Read PRCC; its validation search is like the test's: B and C search A.

    Raises:
        UserError: a folder is missing or empty, a name doesn't parse, splits share an identity.
    """
    folder = find_folder(root, FOLDER_NAMES, ("rgb",), TREE)
    train, val = _mixed_cameras(folder, "rgb/train"), _mixed_cameras(folder, "rgb/val")
    items = {camera: _one_camera(folder, camera) for camera in CAMERAS}
    everybody = [item for camera in CAMERAS for item in items[camera]]
    # The validation pictures are of the training identities, in PRCC itself.
    check_disjoint(train, {"test": everybody}, f"unpack {folder} again: PRCC parts identities")
    records, identities, clothes = relabel(train)
    rank = {number: i for i, number in enumerate(sorted({int(i.identity) for i in everybody}))}
    seen = {camera: _test_records(items[camera], rank) for camera in CAMERAS}
    return Source(
        name="prcc",
        folder=folder,
        video=False,
        train=records,
        identities=identities,
        clothes=clothes,
        test=EvalSplit(query=seen["B"] + seen["C"], gallery=seen["A"], protocols=PROTOCOLS),
        val=_val_search(relabel(val).records),
        single_shot=_single_shot(seen["A"]),
        notes=("the validation pictures (B and C search A) are of the training identities",),
    )


def _mixed_cameras(folder: Path, part: str) -> list[RawRecord]:
    """Items of ``<part>/<person>/<camera>_*.jpg``."""
    paths = list_images(folder, part, TREE, suffixes=(".jpg",), nested=True)
    persons = _persons(folder, part, paths)
    matches = match_names(folder / part, paths, NAME, "A_cropped_rgb027.jpg")
    return [
        _item(path, person, match[1])
        for path, person, match in zip(paths, persons, matches, strict=True)
    ]


def _one_camera(folder: Path, camera: str) -> list[RawRecord]:
    """Items of ``test/<camera>/<person>/*.jpg``."""
    part = f"rgb/test/{camera}"
    paths = list_images(folder, part, TREE, suffixes=(".jpg",), nested=True)
    persons = _persons(folder, part, paths)
    return [_item(path, person, camera) for path, person in zip(paths, persons, strict=True)]


def _persons(folder: Path, part: str, paths: Sequence[str]) -> list[str]:
    """Names of the folders that the pictures lie in."""
    homes = [path.split("/")[-2] for path in paths]
    match_names(folder / part, dict.fromkeys(homes), PERSON, "a folder 001")
    return homes


def _item(path: str, person: str, camera: str) -> RawRecord:
    clothes = f"{person}C" if camera == "C" else person
    return RawRecord((path,), person, CAMERAS.index(camera), clothes)


def _test_records(items: Sequence[RawRecord], rank: dict[int, int]) -> tuple[Record, ...]:
    numbers = [int(item.identity) for item in items]
    return tuple(
        Record(item.frames, number, item.camera, 2 * rank[number] + (item.camera == 2))
        for item, number in zip(items, numbers, strict=True)
    )


def _val_search(records: Sequence[Record]) -> EvalSplit:
    by_camera = [tuple(r for r in records if r.camera == camera) for camera in range(3)]
    return EvalSplit(query=by_camera[1] + by_camera[2], gallery=by_camera[0], protocols=PROTOCOLS)


def _single_shot(gallery: Sequence[Record]) -> tuple[tuple[int, ...], ...]:
    """Draw a picture of each identity, ten times, as the original draws them."""
    indices: dict[int, list[int]] = {}
    for index, record in enumerate(gallery):
        indices.setdefault(record.identity, []).append(index)
    rng = Random(SEED)
    return tuple(tuple(rng.choice(own) for own in indices.values()) for _ in range(TRIALS))
