"""Time of networks and of a training step."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from ffreid.bench.common import SEED, operations
from ffreid.engine import timing
from ffreid.engine.task import Progress
from ffreid.engine.timing import milliseconds
from ffreid.engine.train_step import TrainStep
from ffreid.reid.build import build_optimisers, build_task
from ffreid.reid.data.batch import ReidBatch
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.defaults import defaults
from ffreid.reid.model import NETWORKS

QUICK_SIZES, SIZES = ((96, 48), (64, 32)), ((384, 192), (256, 128))
"""Height and width of images and of frames of clips."""
row = partial(timing.row, part=True)  # the stages have different sizes: no shares


def network_rows(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """Time the forward passes of evaluation."""
    size, small = QUICK_SIZES if quick else SIZES
    rows = []
    for name, title, shape in (
        ("resnet50", f"ResNet-50, 8 images, {size[0]} x {size[1]}", (8, 3, *size)),
        ("c2dres50", f"C2D, a clip, 8 x {small[0]} x {small[1]}", (1, 3, 8, *small)),
    ):
        net = NETWORKS[name]().eval().to(device)
        with torch.inference_mode():
            images = torch.randn(shape, generator=torch.Generator().manual_seed(SEED)).to(device)
            time = milliseconds(partial(net, images), 1 if quick else 2)
            flops = operations(partial(net, images))
        rows.append(row(f"{title}, {flops / 1e9:.0f} GFLOP", time))
    return rows


def training_rows(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """Time a step of CAL that trains both classifiers, on 16 images in two batch norm groups.

    Also the network's forward pass with both groups at once against one for each.
    """
    size, _ = QUICK_SIZES if quick else SIZES
    train_step, batch = cal_training(*size, device)
    at = Progress(step=0, total=1, epoch=0)
    step = milliseconds(lambda: train_step.step([batch], at), 1 if quick else 2)
    grouped, single = train_step.task.get_submodule("net.model"), NETWORKS["resnet50"]().to(device)
    first, second = batch.images.chunk(2)
    with torch.no_grad():
        fast = milliseconds(lambda: grouped(batch.images), 2)
        slow = milliseconds(lambda: (single(first), single(second)), 2)
    return [
        row(f"CAL, training step of 16, {size[0]} x {size[1]}", step),
        row("  forward, 2 groups at once (reference: one by one)", fast, slow),
    ]


def cal_training(height: int, width: int, device: torch.device) -> tuple[TrainStep, ReidBatch]:
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
    task = build_task(cfg, source, device)
    optimisers = build_optimisers(cfg, task)
    rates = {name: lambda step: float(cfg.TRAIN.OPTIMIZER.LR) for name in task.optimized}
    images = torch.randn(16, 3, height, width, generator=torch.Generator().manual_seed(SEED))
    clothes = torch.arange(16) // 4
    batch = ReidBatch(images, clothes // 2, clothes).to(device, torch.float32)
    return TrainStep(task, optimisers, rates, device=device, seed=cfg.SEED), batch
