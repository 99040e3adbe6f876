"""Time per stage: samples, networks and training, and a search beside its reference."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import functional

from ffreid.bench.reference_retrieval import reference_rank, reference_rerank
from ffreid.engine import timing
from ffreid.engine.dataset_files import open_image
from ffreid.engine.task import Progress
from ffreid.engine.timing import measure_alone, milliseconds
from ffreid.engine.train_step import TrainStep
from ffreid.reid.build import build_optimisers, build_task
from ffreid.reid.data.batch import ReidBatch
from ffreid.reid.data.dataset import TrainSet
from ffreid.reid.data.records import EvalSplit, Record, Source
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
from ffreid.reid.defaults import defaults
from ffreid.reid.model import NETWORKS
from ffreid.reid.retrieval.features import unit
from ffreid.reid.retrieval.protocols import STANDARD
from ffreid.reid.retrieval.ranking import cosine_distances, rank
from ffreid.reid.retrieval.reranking import rerank

_SEED = 0
_QUICK_SIZES, _SIZES = ((96, 48), (64, 32)), ((384, 192), (256, 128))
"""Height and width of images and of frames of clips."""
row = partial(timing.row, part=True)  # the stages have different sizes: no shares


def bench(quick: bool) -> list[dict[str, Any]]:
    """Time every stage on synthetic data, `quick` with small inputs and few repetitions."""
    stages = (feeding_rows, network_rows, training_rows, ranking_rows, reranking_rows)
    return [line for stage in stages for line in stage(quick)]


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
    rng = np.random.default_rng(_SEED)
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
    image = open_image(data.folder / record.frames[0])
    image = functional.resize(image, [prepare.height, prepare.width])
    image = random_crop(image, prepare.crop, sample.rng)
    if should_flip_image(prepare.flip, sample.flip_generator):
        image = functional.hflip(image)
    result: Tensor = functional.normalize(functional.to_tensor(image), MEAN, DEVIATION)
    random_erasing(result, prepare.erase, sample.rng)
    return result


def network_rows(quick: bool) -> list[dict[str, Any]]:
    """Time the forward passes of evaluation."""
    size, small = _QUICK_SIZES if quick else _SIZES
    rows = []
    for name, title, shape in (
        ("resnet50", f"ResNet-50, 8 images, {size[0]} x {size[1]}", (8, 3, *size)),
        ("c2dres50", f"C2D, a clip, 8 x {small[0]} x {small[1]}", (1, 3, 8, *small)),
    ):
        net = NETWORKS[name]().eval()
        with torch.inference_mode():
            images = torch.randn(shape, generator=torch.Generator().manual_seed(_SEED))
            time = milliseconds(partial(net, images), 1 if quick else 2)
        flops = operations(NETWORKS[name], shape)
        rows.append(row(f"{title}, {flops / 1e9:.0f} GFLOP", time))
    return rows


def operations(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> int:
    """Count the floating point operations of a forward pass's convolutions and matrix products.

    A multiplication and an addition count 2; nothing is computed.
    """
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        make().eval()(torch.empty(shape))
    return int(counter.get_total_flops())


def training_rows(quick: bool) -> list[dict[str, Any]]:
    """Time a step of CAL that trains both classifiers, on 16 images in two batch norm groups.

    Also the network's forward pass with both groups at once against one for each.
    """
    size, _ = _QUICK_SIZES if quick else _SIZES
    train_step, batch = cal_training(*size)
    at = Progress(step=0, total=1, epoch=0)
    step = milliseconds(lambda: train_step.step([batch], at), 1 if quick else 2)
    grouped, single = train_step.task.get_submodule("net.model"), NETWORKS["resnet50"]()
    first, second = batch.images.chunk(2)
    with torch.no_grad():
        fast = milliseconds(lambda: grouped(batch.images), 2)
        slow = milliseconds(lambda: (single(first), single(second)), 2)
    return [
        row(f"CAL, training step of 16, {size[0]} x {size[1]}", step),
        row("  forward, 2 groups at once (reference: one by one)", fast, slow),
    ]


def cal_training(height: int, width: int) -> tuple[TrainStep, ReidBatch]:
    """Return the training step of a ResNet-50 with CAL from epoch 0, and a batch of 16 images."""
    cfg = defaults()
    cfg.MODEL.BACKBONE, cfg.MODEL.FEATURE_DIM = "random", 4096
    cfg.TRAIN.BN_GROUPS, cfg.TRAIN.START_EPOCH_CC, cfg.TRAIN.START_EPOCH_ADV = 2, 0, 0
    train = tuple(Record((f"{i}.jpg",), i // 2, 0, i) for i in range(150))
    names = tuple(str(i) for i in range(150))
    source = Source(
        name="synthetic",
        folder=Path(),
        video=False,
        train=train,
        identities=names[:75],
        clothes=names,
        test=EvalSplit(query=(), gallery=(), protocols=()),
    )
    device = torch.device("cpu")
    task = build_task(cfg, source, device)
    optimisers = build_optimisers(cfg, task)
    rates = {name: lambda step: float(cfg.TRAIN.OPTIMIZER.LR) for name in task.optimized}
    images = torch.randn(16, 3, height, width, generator=torch.Generator().manual_seed(_SEED))
    clothes = torch.arange(16) // 4
    batch = ReidBatch(images, clothes // 2, clothes)
    return TrainStep(task, optimisers, rates, device=device, seed=cfg.SEED), batch


def ranking_rows(quick: bool) -> list[dict[str, Any]]:
    """Time three protocols at the sizes of LTCC and DeepChange, and the memory that they take.

    Every distance must be read once: Q x G x 4 bytes, of which there is a row.
    """
    rows = size_rows("LTCC", 60 if quick else 493, 7050, 75, 12)
    rows += size_rows("DeepChange", 6 if quick else 300, 62956, 521, 17)
    queries, items = (50, 20000) if quick else (2000, 60000)
    cost = measure_alone(ranking_of_features, queries, items)
    stage = f"3 protocols from features, {queries} x {items}, 64 dimensions"
    return [*rows, row(stage, cost.milliseconds, megabytes=cost.megabytes)]


def size_rows(
    name: str, queries: int, items: int, identities: int, cameras: int
) -> list[dict[str, Any]]:
    """Time the evaluator and its reference on the same distances, at the size of dataset `name`."""
    generator = torch.Generator().manual_seed(_SEED)
    query = random_labels(queries, identities, cameras, generator)
    gallery = random_labels(items, identities, cameras, generator)
    distances = torch.randn(queries, items, generator=generator)
    fast = milliseconds(lambda: rank(distances, query, gallery, STANDARD), 5)
    slow = milliseconds(
        lambda: [reference_rank(distances, query, gallery, protocol) for protocol in STANDARD], 1
    )
    return [
        row(f"3 protocols, {name} size, {queries} x {items}", fast, slow),
        row("  reading the distances once", milliseconds(distances.sum, 3)),
    ]


def ranking_of_features(queries: int, items: int) -> Callable[[], object]:
    """Return a function that ranks random features of 64 dimensions."""
    generator = torch.Generator().manual_seed(_SEED)
    query = random_labels(queries, 500, 17, generator)
    gallery = random_labels(items, 500, 17, generator)
    distances = cosine_distances(*random_features(queries, items, 64))
    return lambda: rank(distances, query, gallery, STANDARD)


def reranking_rows(quick: bool) -> list[dict[str, Any]]:
    """Time re-ranking beside the dense formula, and with 100,000 items, which that cannot hold.

    Dense, 100,000 items take three tables of 40 GB. All pairs of items must be compared:
    2 x N x N x D operations.
    """
    queries, items = (20, 380) if quick else (200, 1800)
    left, right = random_features(queries, items, 128)
    both = torch.cat([left, right]).numpy()
    fast = milliseconds(lambda: rerank(left, right)(0, queries), 1 if quick else 3)
    slow = milliseconds(lambda: reference_rerank(both, queries), 1)
    few, many = (30, 3000) if quick else (300, 100000)
    cost = measure_alone(reranking_of_features, few, many)
    large = f"re-ranking, {few} x {many}, 128 dimensions"
    return [
        row(f"re-ranking, {queries} x {items}, 128 dimensions", fast, slow),
        row(large, cost.milliseconds, megabytes=cost.megabytes),
    ]


def reranking_of_features(queries: int, items: int) -> Callable[[], object]:
    """Return a function that re-ranks random features of 128 dimensions, 50 queries at a time."""
    left, right = random_features(queries, items, 128)

    def call() -> None:
        distances = rerank(left, right)
        for start in range(0, queries, 50):
            distances(start, min(start + 50, queries))

    return call


def random_labels(
    count: int, identities: int, cameras: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return labels (count,) of random identities with three sets of clothes each."""
    identity = torch.randint(identities, (count,), generator=generator)
    clothes = identity * 3 + torch.randint(3, (count,), generator=generator)
    camera = torch.randint(cameras, (count,), generator=generator)
    return {"identity": identity, "camera": camera, "clothes": clothes}


def random_features(queries: int, items: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Return unit features (queries, D) and (items, D) in clusters of about 20."""
    generator = torch.Generator().manual_seed(_SEED)
    centres = torch.randn(max((queries + items) // 20, 2), dimensions, generator=generator)

    def sample(count: int) -> Tensor:
        cluster = torch.randint(len(centres), (count,), generator=generator)
        noise = torch.randn(count, dimensions, generator=generator)
        return unit(noise.mul_(0.7).add_(centres[cluster]))

    return sample(queries), sample(items)
