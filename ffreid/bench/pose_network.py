"""Time of FFB6D."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ffreid.bench.common import SEED, operations
from ffreid.bench.pose_data import rendered_frame
from ffreid.engine.timing import in_turn, milliseconds, row
from ffreid.pose.data.batch import Inputs, Sample, collate
from ffreid.pose.data.sample import make_sample
from ffreid.pose.model.compiled import CompiledFFB6D
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.objects import ycb_objects


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
    with torch.inference_mode():
        counts = {name: operations(call) for name, call in calls.items()}
        times = in_turn(calls, 1 if quick else 3)
        floors = {
            name: counts[name] / _rate(dtype, quick, device) for name, dtype in dtypes.items()
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


def _rate(dtype: torch.dtype, quick: bool, device: torch.device) -> float:
    """Operations a millisecond of a 3 x 3 convolution of 512 channels, as in the network."""
    height, width = (12, 16) if quick else (60, 80)
    image = torch.ones(1, 512, height, width, dtype=dtype, device=device).to(
        memory_format=torch.channels_last
    )
    weight = torch.ones(512, 512, 3, 3, dtype=dtype, device=device).to(
        memory_format=torch.channels_last
    )
    call = partial(torch.nn.functional.conv2d, image, weight, padding=1)
    return operations(call) / milliseconds(call, 3)
