"""Time per stage of a frame, compared with reference implementations of optimized stages."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ffreid.bench.reference_pose import reference_mean_shift, reference_pyramid
from ffreid.engine.timing import in_turn, measure_alone, milliseconds, row
from ffreid.pose.data.batch import Inputs, Sample, collate
from ffreid.pose.data.depth import back_project, fill_missing, normals_from_depth
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.pyramid import build_pyramid
from ffreid.pose.data.sample import make_sample
from ffreid.pose.model.compiled import CompiledFFB6D
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.objects import ycb_objects
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.toy.scenes import toy_frame
from ffreid.pose.voting.frame import frame_poses
from ffreid.pose.voting.meanshift import mean_shift

BANDWIDTH = 0.04
_SEED = 0


def bench(quick: bool) -> list[dict[str, Any]]:
    """Time every stage on synthetic data, `quick` with small inputs and few repetitions.

    Rows are those of `engine.timing.row`; ``share`` is of a frame's time.
    """
    rows = [*memory_rows(quick), *data_rows(quick), *network_rows(quick), *voting_rows(quick)]
    total = sum(line["milliseconds"] for line in rows if line["share"] is not None)
    for line in rows:
        if line["share"] is not None:
            line["share"] = line["milliseconds"] / total
    return rows


def memory_rows(quick: bool) -> list[dict[str, Any]]:
    """Time the nine fits of one object with 4,000 votes, and the memory that they take."""
    votes = 400 if quick else 4000
    cost = measure_alone(_nine_fits, votes)
    stage = f"mean shift, 9 fits of {votes} votes"
    return [row(stage, cost.milliseconds, part=True, megabytes=cost.megabytes)]


def _nine_fits(count: int) -> Callable[[], object]:
    votes = torch.randn(9, count, 3, generator=torch.Generator().manual_seed(_SEED))
    votes *= 0.01
    return lambda: mean_shift(votes, bandwidth=BANDWIDTH)


def data_rows(quick: bool) -> list[dict[str, Any]]:
    """Time what turns a rendered frame into a sample: holes, normals, neighbours (one worker)."""
    frame, points = _frame(quick)
    repeats = 1 if quick else 5
    depth, scale, intrinsics = frame.depth, frame.depth_scale, frame.intrinsics
    filled = fill_missing(depth, scale)
    millimetres = (filled / 10).astype(np.uint16)
    fx, fy = float(intrinsics[0, 0]), float(intrinsics[1, 1])
    point_map = back_project(filled / np.float32(scale), intrinsics)
    valid = np.flatnonzero(filled.reshape(-1) > 1e-6)
    chosen = np.random.RandomState(_SEED).permutation(valid)[:points]
    cloud = point_map.reshape(-1, 3)[chosen]
    size = f"{depth.shape[0]} x {depth.shape[1]}"
    holes = milliseconds(lambda: fill_missing(depth, scale), repeats)
    normals = milliseconds(lambda: normals_from_depth(millimetres, fx, fy), repeats)
    one = milliseconds(lambda: build_pyramid(cloud, point_map, workers=1), repeats)
    two = milliseconds(lambda: build_pyramid(cloud, point_map, workers=2), repeats)
    reference = milliseconds(lambda: reference_pyramid(cloud, point_map), repeats)
    return [
        row(f"hole filling, {size}", holes),
        row(f"normals, {size}", normals),
        row(f"neighbours, {points} points, 1 worker", one, reference),
        row("  2 workers (reference: 1 worker)", two, one, part=True),
    ]


def _frame(quick: bool) -> tuple[Frame, int]:
    """Render a frame; also return how many of its points are sampled."""
    height, width, points = (96, 128, 1024) if quick else (480, 640, 12800)
    generator = np.random.default_rng(_SEED)
    frame = toy_frame("bench", toy_objects(), height=height, width=width, generator=generator)
    return frame, points


def network_rows(quick: bool) -> list[dict[str, Any]]:
    """Time the network on one frame, 22 classes: as evaluation runs it, and as it is trained.

    Of the counted operations the floor is their time at the rate of one large convolution.
    """
    inputs = _inputs(quick)
    height, width = inputs.rgb.shape[2:]
    net = FFB6D(22).eval()
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    calls: dict[str, Callable[[], object]] = {"plain": lambda: net(inputs)}
    for name, dtype in dtypes.items():
        calls[name] = partial(CompiledFFB6D(net, deep=dtype), inputs)
    with torch.inference_mode():
        counts = {name: _operations(call) for name, call in calls.items()}
        times = in_turn(calls, 1 if quick else 3)
        floors = {name: counts[name] / _rate(dtype, quick) for name, dtype in dtypes.items()}
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


def _inputs(quick: bool) -> Inputs:
    frame, points = _frame(quick)
    sample = make_sample(
        replace(frame, class_ids=frame.class_ids[:0], camera_from_object=np.zeros((0, 3, 4), "f4")),
        ycb_objects(),
        points=points,
        rng=np.random.RandomState(_SEED),
        fill_holes=True,
    )
    assert isinstance(sample, Sample)
    return collate([sample]).inputs.to(torch.device("cpu"))


def _operations(call: Callable[[], object]) -> int:
    """Additions and multiplications of the call's products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def _rate(dtype: torch.dtype, quick: bool) -> float:
    """Operations a millisecond of a 3 x 3 convolution of 512 channels, as in the network."""
    height, width = (12, 16) if quick else (60, 80)
    image = torch.ones(1, 512, height, width, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.ones(512, 512, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
    call = partial(torch.nn.functional.conv2d, image, weight, padding=1)
    return _operations(call) / milliseconds(call, 3)


def voting_rows(quick: bool) -> list[dict[str, Any]]:
    """Time the votes of a frame with five objects: the fits beside their reference, and all.

    The fits are one of the centre and eight of keypoints for each object; 5 % of the votes are
    outliers, which is what makes mean shift slow.
    """
    votes_each, repeats = (150, 3) if quick else (300, 5)
    frame = five_object_frame(votes_each, torch.Generator().manual_seed(_SEED))
    points, labels, centre_offsets, keypoint_offsets = frame
    votes = points - torch.cat([centre_offsets, keypoint_offsets])
    fits = [votes[:, labels == class_id] for class_id in torch.unique(labels)]
    fast = milliseconds(lambda: [mean_shift(group, bandwidth=BANDWIDTH) for group in fits], repeats)
    slow = milliseconds(
        lambda: [reference_mean_shift(fit, bandwidth=BANDWIDTH) for group in fits for fit in group],
        1,
    )
    all_ = milliseconds(lambda: frame_poses(*frame, ycb_objects(), bandwidth=BANDWIDTH), repeats)
    size = f"5 objects x {votes_each} votes"
    return [row(f"voting and poses, {size}", all_), row("  mean shift", fast, slow, part=True)]


def five_object_frame(
    votes_each: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return points (N, 3), labels (N,), centre (1, N, 3) and keypoint offsets (8, N, 3) in metres.

    Five objects of YCB-Video, 25 cm apart; offsets have errors of 3 mm, 5 % of them of 20 cm.
    """
    objects = ycb_objects()
    class_ids = torch.randperm(len(objects), generator=generator)[:5] + 1
    labels = class_ids.repeat_interleave(votes_each)
    places = torch.tensor([[0.25 * i - 0.5, 0.0, 0.9] for i in range(5)])
    surface = (torch.rand(5, votes_each, 3, generator=generator) - 0.5) * 0.1
    points = (places[:, None] + surface).reshape(-1, 3)
    model = torch.from_numpy(objects.keypoints)[class_ids - 1]
    model = torch.cat([torch.from_numpy(objects.centres)[class_ids - 1, None], model], dim=1)
    targets = (places[:, None] + model).repeat_interleave(votes_each, dim=0)
    noise = torch.randn(*targets.shape, generator=generator) * 0.003
    noise[torch.rand(len(noise), generator=generator) < 0.05] *= 0.2 / 0.003
    offsets = (points[:, None] - targets + noise).transpose(0, 1)
    return points, labels, offsets[:1], offsets[1:]
