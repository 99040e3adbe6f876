"""Time of FFB6D."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ffreid.bench.common import SEED, convolution_rate, operations
from ffreid.bench.pose_data import rendered_frame
from ffreid.engine import memory, modules, precision
from ffreid.engine.task import Progress
from ffreid.engine.timing import in_turn, row
from ffreid.engine.train_step import TrainStep
from ffreid.pose.build import build_optimisers
from ffreid.pose.data.batch import Inputs, Sample, collate
from ffreid.pose.data.sample import make_sample
from ffreid.pose.defaults import defaults
from ffreid.pose.model.compiled import CompiledFFB6D
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.objects import ycb_objects
from ffreid.pose.task import PoseTask
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.toy.scenes import toy_frame


def network_rows(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """Time the network on one frame, 22 classes: as evaluation runs it, and as it is trained.

    Of the counted operations the floor is their time at the rate of one large convolution.
    """
    inputs = _inputs(quick, device)
    height, width = inputs.rgb.shape[2:]
    net = FFB6D(22).eval().to(device)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    calls: dict[str, Callable[[], object]] = {"plain": lambda: net(inputs)}
    for name, dtype in dtypes.items():
        calls[name] = partial(CompiledFFB6D(net, deep=dtype), inputs)
    with torch.inference_mode(), memory.keep_freed():
        counts = {name: operations(call) for name, call in calls.items()}
        times = in_turn(calls, 1 if quick else 3)
        floors = {
            name: counts[name] / convolution_rate(dtype, quick, device)
            for name, dtype in dtypes.items()
        }
    size = f"network, {height} x {width}, {inputs.choose.shape[1]} points"
    return [
        row(
            f"{size}, {name}: {counts[name] / 1e9:.3g} GFLOP (plain {counts['plain'] / 1e9:.3g}), "
            f"{floors[name] / times[name]:.0%} of the rate of a large convolution",
            times[name],
            times["plain"],
            part=name != "fp32",
        )
        for name in dtypes
    ]


def training_rows(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """Time a training step on two frames with ``--amp``, beside one in float32."""
    height, width, points = (64, 96, 1024) if quick else (240, 320, 12800)
    draw, toys, objects = np.random.default_rng(SEED), toy_objects(), ycb_objects()
    frames = [
        toy_frame("bench", toys, height=height, width=width, generator=draw) for _ in range(2)
    ]
    samples = [
        make_sample(frame, objects, points=points, rng=np.random.RandomState(SEED), fill_holes=True)
        for frame in frames
    ]
    assert all(isinstance(sample, Sample) for sample in samples)
    batch = collate(samples)  # type: ignore[arg-type]

    def step(kind: str) -> Callable[[], object]:
        cfg = defaults()
        cfg.TRAIN.PRECISION = kind
        task = PoseTask(
            FFB6D(len(objects) + 1), offset_samples=3.0, frozen=False, momentum_batch=None
        ).to(device)
        if precision.is_bf16_on_cpu(cfg, device):
            modules.channels_last(task)
        rates = {"net": lambda step: 1e-5}
        autocast = precision.autocast_dtype(cfg, device)
        optimisers = build_optimisers(cfg, task)
        trained = TrainStep(task, optimisers, rates, device=device, autocast=autocast, seed=SEED)
        return lambda: trained.step([batch], Progress(step=0, total=1, epoch=0))

    with memory.keep_freed():
        times = in_turn({kind: step(kind) for kind in ("fp32", "amp")}, 1 if quick else 3)
    stage = f"training step of 2, {height} x {width}, {points} points, amp (plain: fp32)"
    return [row(stage, times["amp"], times["fp32"], part=True)]


def _inputs(quick: bool, device: torch.device) -> Inputs:
    frame, points = rendered_frame(quick)
    sample = make_sample(
        replace(frame, class_ids=frame.class_ids[:0], camera_from_object=np.zeros((0, 3, 4), "f4")),
        ycb_objects(),
        points=points,
        rng=np.random.RandomState(SEED),
        fill_holes=True,
    )
    assert isinstance(sample, Sample)
    return collate([sample]).inputs.to(device)
