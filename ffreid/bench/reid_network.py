"""Time of networks and of a training step."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ffreid.bench.common import SEED, convolution_rate, operations
from ffreid.bench.reference_training import plain_step
from ffreid.engine import memory, modules, precision, timing
from ffreid.engine.task import Progress
from ffreid.engine.timing import in_turn, measure_alone
from ffreid.engine.train_step import TrainStep
from ffreid.reid.build import build_optimisers, build_task
from ffreid.reid.data.batch import ReidBatch
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.defaults import defaults
from ffreid.reid.model import NETWORKS
from ffreid.reid.model.compiled import CompiledResNet50
from ffreid.reid.model.openvino import OpenVinoNetwork

QUICK_SIZES, SIZES = ((96, 48), (64, 32)), ((384, 192), (256, 128))
"""Height and width of images and of frames of clips."""
IDENTITIES = 75
"""In training, with two clothes classes each."""
row = partial(timing.row, part=True)  # the stages have different sizes: no shares


def network_rows(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """Time the forward passes of evaluation, beside the network as it is trained.

    The floor is the time of their operations at the rate of one large convolution.
    """
    size, small = QUICK_SIZES if quick else SIZES
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    rates = {name: convolution_rate(dtype, quick, device) for name, dtype in dtypes.items()}
    rows = []
    for name, title, shape in (
        ("resnet50", f"ResNet-50, 8 images, {size[0]} x {size[1]}", (8, 3, *size)),
        ("c2dres50", f"C2D, a clip, 8 x {small[0]} x {small[1]}", (1, 3, 8, *small)),
    ):
        net = NETWORKS[name]().eval().to(device)
        images = torch.randn(shape, generator=torch.Generator().manual_seed(SEED)).to(device)
        calls: dict[str, Callable[[], object]] = {"plain": partial(net, images)}
        for kind, dtype in dtypes.items():
            calls[kind] = partial(CompiledResNet50(net, dtype), images)
        engines: tuple[str, ...] = ()
        if device.type == "cpu" and not quick and find_spec("openvino"):  # compiles for 10 to 20 s
            engines = tuple(f"OpenVINO, {kind}" for kind in dtypes)
            for engine, kind in zip(engines, dtypes, strict=True):
                calls[engine] = partial(OpenVinoNetwork(net, kind), images)
        with torch.inference_mode(), memory.keep_freed():
            count = operations(calls["plain"])
            times = in_turn(calls, 1 if quick else 5)
        for kind in dtypes:
            share = count / rates[kind] / times[kind]
            stage = f"{title}, {kind}: {count / 1e9:.0f} GFLOP, {share:.0%} of the rate of a"
            rows.append(row(f"{stage} large convolution", times[kind], times["plain"]))
        rows += [row(f"{title}, {engine}", times[engine], times["plain"]) for engine in engines]
    return rows


def training_rows(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """Time a step of CAL that trains both classifiers, on 16 images in two batch norm groups.

    The plain form is a bare loop of the original's form, in float32 and with one group. On a CPU
    also the step with and without `memory.keep_freed`.
    """
    size, _ = QUICK_SIZES if quick else SIZES
    plain = plain_step(cal_training(*size, device)[1], IDENTITIES)
    title = f"CAL, training step of 16, {size[0]} x {size[1]}"
    with memory.keep_freed():
        calls = {"plain": plain} | {kind: cal_step(*size, device, kind) for kind in ("fp32", "amp")}
        times = in_turn(calls, 1 if quick else 3)
    rows = [row(f"{title}, {kind}", times[kind], times["plain"]) for kind in ("fp32", "amp")]
    if device.type == "cpu":
        kept, returned = (measure_alone(warm_step, *size, keep) for keep in (True, False))
        stage = "  fp32, freed memory is kept (plain: returned to the system)"
        rows.append(row(stage, kept.milliseconds, returned.milliseconds, megabytes=kept.megabytes))
    return rows


def warm_step(height: int, width: int, keep: bool) -> Callable[[], object]:
    """Return the training step on a CPU, after one of them, for a process of its own."""
    kept = memory.keep_freed() if keep else nullcontext()
    kept.__enter__()
    step = cal_step(height, width, torch.device("cpu"), "fp32")
    step()

    def call() -> None:
        assert kept is not None  # without a reference to it the block would end
        step()

    return call


def cal_step(height: int, width: int, device: torch.device, kind: str) -> Callable[[], object]:
    """Return the training step with TRAIN.PRECISION `kind`."""
    train_step, batch = cal_training(height, width, device, kind)
    return lambda: train_step.step([batch], Progress(step=0, total=1, epoch=0))


def cal_training(
    height: int, width: int, device: torch.device, kind: str = "fp32"
) -> tuple[TrainStep, ReidBatch]:
    """Return the training step of a ResNet-50 with CAL from epoch 0, and a batch of 16 images."""
    cfg = defaults()
    cfg.MODEL.BACKBONE, cfg.MODEL.FEATURE_DIM = "random", 4096
    cfg.DATA.TRAIN_BATCH, cfg.TRAIN.PRECISION = 8, kind
    cfg.TRAIN.BN_GROUPS, cfg.TRAIN.START_EPOCH_CC, cfg.TRAIN.START_EPOCH_ADV = 2, 0, 0
    train = tuple(Record((f"{i}.jpg",), i // 2, 0, i) for i in range(2 * IDENTITIES))
    names = tuple(str(i) for i in range(2 * IDENTITIES))
    source = Source(
        name="synthetic",
        folder=Path(),
        video=False,
        train=train,
        identities=names[:IDENTITIES],
        clothes=names,
        test=EvalSplit(query=(), gallery=(), protocols=()),
    )
    task = build_task(cfg, source, device)
    if precision.is_bf16_on_cpu(cfg, device):
        modules.channels_last(task)
    optimisers = build_optimisers(cfg, task)
    rates = {name: lambda step: float(cfg.TRAIN.OPTIMIZER.LR) for name in task.optimized}
    images = torch.randn(16, 3, height, width, generator=torch.Generator().manual_seed(SEED))
    clothes = torch.arange(16) // 4
    batch = ReidBatch(images, clothes // 2, clothes).to(device, torch.float32)
    options = {"device": device, "seed": cfg.SEED}
    autocast = precision.autocast_dtype(cfg, device)
    return TrainStep(task, optimisers, rates, autocast=autocast, **options), batch
