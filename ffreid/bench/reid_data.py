"""Time of loading samples."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from ffreid.bench.common import SEED
from ffreid.engine import timing
from ffreid.engine.dataset_files import open_image
from ffreid.engine.timing import milliseconds
from ffreid.reid.data.dataset import TrainSet
from ffreid.reid.data.records import Record
from ffreid.reid.data.sampler import IdentitySampler
from ffreid.reid.data.transforms import (
    DEVIATION,
    MEAN,
    ClipTraining,
    ImageTraining,
    random_crop,
    random_erasing,
    sample_random,
    should_flip_image,
)

_QUICK_SIZES, _SIZES = ((96, 48), (64, 32)), ((384, 192), (256, 128))
"""Height and width of images and of frames of clips."""
row = partial(timing.row, part=True)  # the stages have different sizes: no shares


def feeding_rows(quick: bool) -> list[dict[str, Any]]:
    """Time training samples from JPG files of 300 x 130, as one worker loads them.

    The reference does the same with torchvision, on tensors instead of arrays.
    """
    size, small = _QUICK_SIZES if quick else _SIZES
    repeats = 2 if quick else 5
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a data worker
    try:
        with TemporaryDirectory() as name:
            images = noise_dataset(Path(name), ImageTraining(*size), frames=1)
            clips = noise_dataset(Path(name), ClipTraining(*small), frames=40)
            keys = [(0, i) for i in range(len(images))]
            fast = milliseconds(lambda: [images[key] for key in keys], repeats)
            slow = milliseconds(lambda: [reference_sample(images, key) for key in keys], repeats)
            clip = milliseconds(lambda: [clips[key] for key in keys], repeats)
    finally:
        torch.set_num_threads(threads)
    count = len(keys)
    return [
        row(f"training image, {size[0]} x {size[1]}", fast / count, slow / count),
        row(f"training clip, 8 x {small[0]} x {small[1]}", clip / count),
    ]


def noise_dataset(folder: Path, prepare: ImageTraining | ClipTraining, *, frames: int) -> TrainSet:
    """Write JPG images of coarse noise: 8 samples of 2 identities."""
    rng = np.random.default_rng(SEED)
    records = []
    for index in range(8):
        paths = tuple(f"{index}-{frame}.jpg" for frame in range(frames))
        for path in paths:
            noise = Image.fromarray(rng.integers(0, 256, (30, 13, 3), np.uint8))
            noise.resize((130, 300), Image.Resampling.BICUBIC).save(folder / path)
        records.append(Record(paths, index // 4, 0, index // 4))
    sampler = IdentitySampler([r.identity for r in records], instances=4, batch=8, groups=1, seed=1)
    return TrainSet(records, folder, sampler, prepare=prepare, seed=1, skip_broken=False)


def reference_sample(data: TrainSet, key: tuple[int, int]) -> Tensor:
    """Return a training image (3, H, W) of `data`, prepared by torchvision."""
    prepare = data.prepare
    assert isinstance(prepare, ImageTraining)
    sample = sample_random(data.seed, *key)
    record = data.records[data.sampler.index(*key)]
    image: Any = open_image(data.pictures.folder / record.frames[0])
    image = functional.resize(image, [prepare.height, prepare.width])
    image = random_crop(image, prepare.crop, sample.rng)
    if should_flip_image(prepare.flip, sample.flip_generator):
        image = functional.hflip(image)
    result: Tensor = functional.normalize(functional.to_tensor(image), MEAN, DEVIATION)
    random_erasing(result, prepare.erase, sample.rng)
    return result
