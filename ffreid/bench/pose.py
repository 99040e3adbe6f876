"""How long the stages of one frame take here, beside the plain forms of what was made faster."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ffreid.bench.reference_mean_shift import reference_mean_shift
from ffreid.bench.reference_pyramid import reference_pyramid
from ffreid.engine.timing import alone, milliseconds, row
from ffreid.pose.data.batch import Sample, collate
from ffreid.pose.data.depth import back_project, fill_missing, normals_from_depth
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.pyramid import build_pyramid
from ffreid.pose.data.sample import make_sample
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.objects import ycb_objects
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.toy.scenes import toy_frame
from ffreid.pose.voting.frame import frame_poses
from ffreid.pose.voting.meanshift import mean_shift

BANDWIDTH = 0.04
_SEED = 0


def bench(quick: bool) -> list[dict[str, Any]]:
    """Time every stage on made-up data.

    Args:
        quick: small inputs and few repetitions, for a look within seconds.

    Returns:
        A row a measurement: ``stage``, ``milliseconds``, ``share`` of a frame's time (None for
        what is part of another row), ``plain milliseconds`` and ``ratio`` (None where there is
        no plain form), ``peak MB`` (where it is measured).
    """
    rows = [line for stage in STAGES for line in stage(quick)]
    total = sum(line["milliseconds"] for line in rows if line["share"] is not None)
    for line in rows:
        if line["share"] is not None:
            line["share"] = line["milliseconds"] / total
    return rows


def voting_rows(quick: bool) -> list[dict[str, Any]]:
    """Time the votes of a frame with five objects: the fits against their plain form, and all.

    The fits are one of the centre and eight of keypoints for each object; 5 % of the votes are
    far off, which is what makes mean shift take its time.
    """
    votes_each = 150 if quick else 300
    repeats = 3 if quick else 5
    generator = torch.Generator().manual_seed(_SEED)
    frame = five_object_frame(votes_each, generator)
    points, labels, centre_offsets, keypoint_offsets = frame
    votes = points - torch.cat([centre_offsets, keypoint_offsets])
    fits = [votes[:, labels == class_id] for class_id in torch.unique(labels)]

    def plain() -> None:
        for group in fits:
            for fit in group:
                reference_mean_shift(fit, bandwidth=BANDWIDTH)

    def batched() -> None:
        for group in fits:
            mean_shift(group, bandwidth=BANDWIDTH)

    fast, slow = milliseconds(batched, repeats), milliseconds(plain, 1)
    whole = milliseconds(lambda: frame_poses(*frame, ycb_objects(), bandwidth=BANDWIDTH), repeats)
    size = f"5 objects x {votes_each} votes"
    return [row(f"voting and poses, {size}", whole), row("  its mean shift", fast, slow, part=True)]


def memory_rows(quick: bool) -> list[dict[str, Any]]:
    """Time the nine fits of one object with 4,000 votes, and the memory that they take."""
    votes = 400 if quick else 4000
    cost = alone(_nine_fits, votes)
    stage = f"9 fits of {votes} votes alone"
    return [row(stage, cost.milliseconds, part=True, megabytes=cost.megabytes)]


def _nine_fits(count: int) -> Callable[[], object]:
    votes = torch.randn(9, count, 3, generator=torch.Generator().manual_seed(_SEED))
    votes *= 0.01
    return lambda: mean_shift(votes, bandwidth=BANDWIDTH)


def data_rows(quick: bool) -> list[dict[str, Any]]:
    """Time what turns a rendered frame into a sample: holes, normals, neighbours (one worker)."""
    height, width, points = (96, 128, 1024) if quick else (480, 640, 12800)
    repeats = 1 if quick else 5
    frame = _rendered(height, width)
    filled = fill_missing(frame.depth, frame.depth_scale)
    millimetres = (filled / 10).astype(np.uint16)
    fx, fy = float(frame.intrinsics[0, 0]), float(frame.intrinsics[1, 1])
    point_map = back_project(filled / np.float32(frame.depth_scale), frame.intrinsics)
    valid = np.flatnonzero(filled.reshape(-1) > 1e-6)
    chosen = np.random.RandomState(_SEED).permutation(valid)[:points]
    cloud = point_map.reshape(-1, 3)[chosen]

    def pyramid(workers: int) -> float:
        return milliseconds(lambda: build_pyramid(cloud, point_map, workers=workers), repeats)

    alone = pyramid(1)
    plain = milliseconds(lambda: reference_pyramid(cloud, point_map), repeats)
    size = f"{height} x {width}"
    return [
        row(
            f"hole filling, {size}",
            milliseconds(lambda: fill_missing(frame.depth, frame.depth_scale), repeats),
        ),
        row(
            f"normals, {size}",
            milliseconds(lambda: normals_from_depth(millimetres, fx, fy), repeats),
        ),
        row(f"neighbours, {points} points, 1 worker", alone, plain),
        row("  2 workers (plain: 1 worker)", pyramid(2), alone, part=True),
    ]


def _rendered(height: int, width: int) -> Frame:
    generator = np.random.default_rng(_SEED)
    return toy_frame("bench", toy_objects(), height=height, width=width, generator=generator)


def network_rows(quick: bool) -> list[dict[str, Any]]:
    """Time the network's forward pass on one frame, 22 classes."""
    height, width, points = (96, 128, 1024) if quick else (480, 640, 12800)
    frame = _rendered(height, width)
    sample = make_sample(
        replace(frame, class_ids=frame.class_ids[:0], camera_from_object=np.zeros((0, 3, 4), "f4")),
        ycb_objects(),
        points=points,
        rng=np.random.RandomState(_SEED),
        fill_holes=True,
    )
    assert isinstance(sample, Sample)
    inputs = collate([sample]).inputs.to(torch.device("cpu"))
    net = FFB6D(22).eval()
    with torch.inference_mode():
        taken = milliseconds(lambda: net(inputs), 1 if quick else 2)
    return [row(f"network, {height} x {width}, {points} points", taken)]


STAGES: tuple[Callable[[bool], list[dict[str, Any]]], ...] = (
    memory_rows,
    data_rows,
    network_rows,
    voting_rows,
)
"""The stages of a frame; each gives its rows, those that `share` a frame's time with 0.0."""


def five_object_frame(
    votes_each: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make points (N, 3), labels (N,), centre (1, N, 3) and keypoint offsets (8, N, 3) in metres.

    Five objects of YCB-Video stand 25 cm apart; offsets are off by 3 mm, 5 % of them by 20 cm.
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
