"""Small images and tracklets on disk, and datasets over them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ffreid.reid.data.batch import EvalSample, Sample
from ffreid.reid.data.dataset import EvalSet, Pictures, TrainSet
from ffreid.reid.data.records import Record
from ffreid.reid.data.sampler import IdentitySampler
from ffreid.reid.data.transforms import ClipTraining, Evaluation, ImageTraining

Records = list[Record]
IDENTITIES, IMAGES, FRAMES = 3, 4, 6
AUGMENTED = ImageTraining(24, 12)
NOT_AUGMENTED = ImageTraining(24, 12, crop=0, flip=0, erase=0)
CLIPS = ClipTraining(16, 8, length=2, stride=2)


def write_noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (20, 10, 3), np.uint8)).save(path)


def truncate(path: Path) -> None:
    """Damage a file as an interrupted copy does."""
    path.write_bytes(path.read_bytes()[:200])


def write_images(folder: Path) -> Records:
    """Write IMAGES of each of IDENTITIES, each half in other clothes."""
    records = []
    for index in range(IDENTITIES * IMAGES):
        identity, number = divmod(index, IMAGES)
        name = f"{identity}/{number}.png"
        write_noise(folder / name, index)
        records.append(Record((name,), identity, number, 2 * identity + number // 2))
    return records


def write_tracklets(folder: Path) -> Records:
    """Write a tracklet of each identity."""
    records = []
    for identity in range(IDENTITIES):
        names = tuple(f"walk{identity}/{number:05}.png" for number in range(1, FRAMES + 1))
        for number, name in enumerate(names):
            write_noise(folder / name, 100 * identity + number)
        records.append(Record(names, identity, 0, identity))
    return records


def train_set(records: Records, folder: Path | Pictures, **options: Any) -> TrainSet:
    """Make a training set with batches of two samples of an identity."""
    identities = [record.identity for record in records]
    sampler = IdentitySampler(identities, instances=2, batch=2, groups=1, seed=4)
    defaults: dict[str, Any] = {"prepare": AUGMENTED, "seed": 4, "skip_broken": False}
    return TrainSet(records, folder, sampler, **defaults | options)


def eval_set(records: Records, folder: Path, **options: Any) -> EvalSet:
    """Make an evaluation set of images."""
    defaults: dict[str, Any] = {"prepare": Evaluation(24, 12), "skip_broken": False}
    return EvalSet(records, folder, **defaults | options)


def eval_images(data: EvalSet, index: int) -> Tensor:
    """Load an image or clip of an evaluation set."""
    item = data[index]
    assert isinstance(item, EvalSample)
    return item.images


def load_epoch(data: TrainSet, epoch: int = 0) -> list[Sample]:
    """Load the samples of an epoch."""
    return [data[epoch, position] for position in range(len(data))]


def position_of(data: TrainSet, record: int) -> int:
    """Find the position of a record in epoch 0."""
    return next(p for p in range(len(data)) if data.sampler.index(0, p) == record)
