"""PRCC (Yang et al., TPAMI 2021): cameras A and B see the same clothes of a person, C others.

The gallery is camera A; queries of B wear the same clothes, queries of C others. The published
results are multi-shot, with all images of A; the ten single-shot galleries are read as well.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

from ffreid.engine.dataset_files import find_folder
from ffreid.reid.data.readers.files import ImageFinder, match_names
from ffreid.reid.data.readers.relabel import RawRecord, label_names, make_source, relabel
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import between

TREE = DATASETS["prcc"].tree
FOLDER_NAMES = ("prcc", "PRCC")
CAMERAS = "ABC"
PERSON = re.compile(r"(\d+)$")
NAME = re.compile(r"([ABC])_")
PROTOCOLS = (between("SC", (1,), (0,)), between("CC", (2,), (0,)))
TRIALS, SEED = 10, 3


def read(root: Path, *, skip_broken: bool = False) -> Source:
    """Read PRCC; as in the test split, the validation queries are B and C and the gallery is A."""
    folder = find_folder(root, FOLDER_NAMES, ("rgb",), TREE)
    finder = ImageFinder(folder, TREE, skip_broken=skip_broken)
    train, val = (_mixed_cameras(finder, f"rgb/{part}") for part in ("train", "val"))
    by_camera = [_one_camera(finder, camera) for camera in CAMERAS]
    test = [record for records in by_camera for record in records]
    rank = {number: i for i, number in enumerate(sorted({int(r.identity) for r in test}))}
    a, b, c = (
        tuple(
            Record(r.frames, n := int(r.identity), r.camera, 2 * rank[n] + (r.camera == 2))
            for r in records
        )
        for records in by_camera
    )
    names = label_names(test, (*a, *b, *c), CAMERAS.__getitem__)
    val_records = relabel(val)[0]
    val_a, val_b, val_c = (
        tuple(record for record in val_records if record.camera == camera) for camera in range(3)
    )
    # The validation images are of the training identities, in PRCC itself.
    return make_source(
        "prcc",
        folder,
        train,
        {"test": test},
        EvalSplit(query=b + c, gallery=a, protocols=PROTOCOLS, names=names),
        val=EvalSplit(
            query=val_b + val_c,
            gallery=val_a,
            protocols=PROTOCOLS,
            names=label_names(val, val_records, CAMERAS.__getitem__),
        ),
        single_shot=_single_shot(a),
        notes=(
            "the validation images (queries B and C, gallery A) are of the training identities",
            *finder.notes(),
        ),
    )


def _mixed_cameras(finder: ImageFinder, part: str) -> list[RawRecord]:
    """Records of ``<part>/<person>/<camera>_*.jpg``."""
    images = finder.match(part, NAME, "A_cropped_rgb027.jpg", nested=True)
    return _records(finder.folder, part, [(path, match[1]) for path, match in images])


def _one_camera(finder: ImageFinder, camera: str) -> list[RawRecord]:
    """Records of ``test/<camera>/<person>/*.jpg``."""
    part = f"rgb/test/{camera}"
    paths = finder.images(part, nested=True)
    return _records(finder.folder, part, [(path, camera) for path in paths])


def _records(folder: Path, part: str, images: Sequence[tuple[str, str]]) -> list[RawRecord]:
    """Records of (path, camera), with the person from the name of the image's folder."""
    persons = [path.split("/")[-2] for path, _ in images]
    match_names(folder / part, dict.fromkeys(persons), PERSON, "a folder 001")
    return [
        RawRecord((path,), person, CAMERAS.index(camera), f"{person}C" if camera == "C" else person)
        for (path, camera), person in zip(images, persons, strict=True)
    ]


def _single_shot(gallery: Sequence[Record]) -> tuple[tuple[int, ...], ...]:
    """Draw an image of each identity, ten times, with the same random numbers as Simple-CCReID."""
    by_identity: dict[int, list[int]] = {}
    for index, record in enumerate(gallery):
        by_identity.setdefault(record.identity, []).append(index)
    rng = Random(SEED)
    return tuple(
        tuple(rng.choice(indices) for indices in by_identity.values()) for _ in range(TRIALS)
    )
