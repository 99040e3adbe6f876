"""Small pictures and tracklets on disk, and data sets over them, for the tests of this folder."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ffreid.reid.data.batch import Sample
from ffreid.reid.data.dataset import EvalSet, TrainSet
from ffreid.reid.data.records import Record
from ffreid.reid.data.sampler import IdentitySampler
from ffreid.reid.data.transforms import ClipTraining, ImageEvaluation, ImageTraining

IDENTITIES, PICTURES, FRAMES = 3, 4, 6
IMAGES = ImageTraining(24, 12)
PLAIN = ImageTraining(24, 12, crop=0, flip=0, erase=0)
CLIPS = ClipTraining(16, 8, length=2, stride=2)


def write(path: Path, seed: int) -> None:
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (20, 10, 3), np.uint8)).save(path)


def cut_short(path: Path) -> None:
    """Damage a file as an interrupted copy does."""
    path.write_bytes(path.read_bytes()[:200])


def write_pictures(folder: Path) -> list[Record]:
    """Write PICTURES of each of PEOPLE, the first half in one outfit, the others in another."""
    records = []
    for index in range(IDENTITIES * PICTURES):
        identity, number = divmod(index, PICTURES)
        name = f"{identity}/{number}.png"
        write(folder / name, index)
        records.append(Record((name,), identity, number, 2 * identity + number // 2))
    return records


def write_tracklets(folder: Path) -> list[Record]:
    """Write tracklets, one a person."""
    records = []
    for identity in range(IDENTITIES):
        names = tuple(f"walk{identity}/{number:05}.png" for number in range(1, FRAMES + 1))
        for number, name in enumerate(names):
            write(folder / name, 100 * identity + number)
        records.append(Record(names, identity, 0, identity))
    return records


def train_set(records: list[Record], folder: Path, **options: Any) -> TrainSet:
    """Make a training set of pairs of pictures."""
    sampler = IdentitySampler(
        [record.identity for record in records], instances=2, batch=2, groups=1, seed=4
    )
    usual: dict[str, Any] = {"prepare": IMAGES, "seed": 4, "skip_broken": False}
    return TrainSet(records, folder, sampler, **usual | options)


def eval_set(records: list[Record], folder: Path, **options: Any) -> EvalSet:
    """Make an evaluation set of pictures."""
    usual: dict[str, Any] = {"prepare": ImageEvaluation(24, 12), "skip_broken": False}
    return EvalSet(records, folder, **usual | options)


def whole_epoch(data: TrainSet, epoch: int = 0) -> list[Sample]:
    """Load an epoch."""
    return [data[epoch, position] for position in range(len(data))]


def position_of(data: TrainSet, record: int) -> int:
    """Find where a record stands in epoch 0."""
    return next(p for p in range(len(data)) if data.sampler.index(0, p) == record)
