"""Time of loading samples."""

from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from copy import copy
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional

from ffreid.bench.common import SEED
from ffreid.engine import cache, timing
from ffreid.engine.cache import Plan
from ffreid.engine.timing import milliseconds
from ffreid.reid.cache import compute
from ffreid.reid.data.dataset import EvalSet, Pictures, TrainSet
from ffreid.reid.data.pictures import Method
from ffreid.reid.data.records import Record
from ffreid.reid.data.sampler import IdentitySampler
from ffreid.reid.data.transforms import (
    DEVIATION,
    MEAN,
    ClipTraining,
    Evaluation,
    ImageTraining,
    normalise,
    random_crop,
    random_erasing,
    sample_random,
    should_flip_image,
)

_QUICK_SIZES, _SIZES = ((96, 48), (64, 32)), ((384, 192), (256, 128))
"""Height and width of images and of frames of clips."""
row = partial(timing.row, part=True)  # the stages have different sizes: no shares


def feeding_rows(quick: bool) -> list[dict[str, Any]]:
    """Time items from files of 300 x 130, as one worker loads them.

    The plain form is Simple-CCReID's transform, which also normalises; here that is done in the
    batch on the device, of which there is a row.
    """
    size, small = _QUICK_SIZES if quick else _SIZES
    repeats = 2 if quick else 9
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a data worker
    try:
        rows = []
        for suffix in ("jpg", "png"):
            rows += image_rows("test", suffix, size, repeats) + image_rows(
                "training", suffix, size, repeats
            )
        rows += clip_rows(small, repeats)
        pixels = torch.zeros(8, *size, 3, dtype=torch.uint8)
        time = milliseconds(lambda: normalise(pixels), repeats) / len(pixels)
    finally:
        torch.set_num_threads(threads)
    return [*rows, row(f"  normalising an image, {size[0]} x {size[1]}, on this CPU", time)]


def image_rows(kind: str, suffix: str, size: tuple[int, int], repeats: int) -> list[dict[str, Any]]:
    """Rows of test or training images, decoded in each way and from the cache."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        data = noise_dataset(folder, ImageTraining(*size), frames=1, suffix=suffix)
        calls: dict[str, Callable[[], object]] = {}
        for way, images in ways(folder, data.records, size).items():
            if kind == "test":
                items = EvalSet(data.records, images, prepare=Evaluation(*size), skip_broken=False)
                calls[way] = partial(_all, items, range(len(data)))
            else:
                drawn = copy(data)
                drawn.pictures = images
                calls[way] = partial(_all, drawn, [(0, i) for i in range(len(data))])
        paths = [folder / record.frames[0] for record in data.records]
        calls["original"] = partial(_all_original, paths, size)
        if kind != "test":
            keys = [(0, i) for i in range(len(data))]
            calls["original"] = lambda: [reference_sample(data, key) for key in keys]
        times = timing.in_turn(calls, repeats)
    count = len(data)
    title = f"{kind} image, 300 x 130 {suffix.upper()} to {size[0]} x {size[1]}"
    original = times.pop("original") / count
    return [row(f"{title}, {way}", time / count, original) for way, time in times.items()]


def clip_rows(size: tuple[int, int], repeats: int) -> list[dict[str, Any]]:
    """Rows of test clips of 8 frames."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        records = noise_dataset(folder, ClipTraining(*size), frames=8).records
        prepare, calls = Evaluation(*size, video=True), dict[str, Callable[[], object]]()
        for way, images in ways(folder, records, size, "bicubic").items():
            items = EvalSet(records, images, prepare=prepare, skip_broken=False)
            calls[way] = partial(_all, items, range(len(records)))
        paths = [folder / frame for record in records for frame in record.frames]
        calls["original"] = partial(_all_original, paths, size, InterpolationMode.BICUBIC)
        times = timing.in_turn(calls, max(1, repeats // 3))
    title, original = f"test clip, 8 x {size[0]} x {size[1]}", times.pop("original") / len(records)
    return [row(f"{title}, {way}", time / len(records), original) for way, time in times.items()]


def ways(
    folder: Path, records: Sequence[Record], size: tuple[int, int], method: Method = "bilinear"
) -> dict[str, Pictures]:
    """The pictures of a folder by each decoder, and from a cache, which is filled here."""
    fast, (height, width) = Pictures(folder, "fast"), size
    resized = partial(compute, fast, height=height, width=width, method=method, skip_broken=False)
    plan = Plan(
        name="bench",
        home=folder,
        settings={},
        files=lambda: {f: (f"{folder}/{f}",) for record in records for f in record.frames},
        compute=resized,
    )
    with redirect_stderr(StringIO()):
        cache.fill(plan, "", 0)
        kept = cache.find(plan, "")
    pil = Pictures(folder, "pil")
    return {"fast": fast, "pil": pil, "from the cache": Pictures(folder, "fast", kept)}


def _all(data: Any, keys: Sequence[Any]) -> list[Any]:
    return [data[key] for key in keys]


def _all_original(
    paths: Sequence[Path], size: tuple[int, int], method: Any = InterpolationMode.BILINEAR
) -> list[Tensor]:
    """Simple-CCReID's transform of test images."""
    found = []
    for path in paths:
        image = functional.resize(Image.open(path).convert("RGB"), list(size), method)
        found.append(functional.normalize(functional.to_tensor(image), MEAN, DEVIATION))
    return found


def noise_dataset(
    folder: Path, prepare: ImageTraining | ClipTraining, *, frames: int, suffix: str = "jpg"
) -> TrainSet:
    """Write images of coarse noise with a little of fine noise: 8 samples of 2 identities."""
    rng = np.random.default_rng(SEED)
    records = []
    for index in range(8):
        paths = tuple(f"{index}-{frame}.{suffix}" for frame in range(frames))
        for path in paths:
            noise = Image.fromarray(rng.integers(0, 256, (30, 13, 3), np.uint8))
            smooth = np.asarray(noise.resize((130, 300), Image.Resampling.BICUBIC), np.int16)
            noisy = (smooth + rng.integers(-8, 9, (300, 130, 1))).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / path)
        records.append(Record(paths, index // 4, 0, index // 4))
    sampler = IdentitySampler([r.identity for r in records], instances=4, batch=8, groups=1, seed=1)
    return TrainSet(records, folder, sampler, prepare=prepare, seed=1, skip_broken=False)


def reference_sample(data: TrainSet, key: tuple[int, int]) -> Tensor:
    """Return a training image (3, H, W) of `data`, prepared by torchvision."""
    prepare = data.prepare
    assert isinstance(prepare, ImageTraining)
    sample = sample_random(data.seed, *key)
    record = data.records[data.sampler.index(*key)]
    image: Any = Image.open(data.pictures.folder / record.frames[0]).convert("RGB")
    image = functional.resize(image, [prepare.height, prepare.width])
    image = random_crop(image, prepare.crop, sample.rng)
    if should_flip_image(prepare.flip, sample.flip_generator):
        image = functional.hflip(image)
    result: Tensor = functional.normalize(functional.to_tensor(image), MEAN, DEVIATION)
    random_erasing(result, prepare.erase, sample.rng)
    return result
