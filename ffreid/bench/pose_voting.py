"""Time from the network's outputs to poses."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ffreid.bench.common import SEED
from ffreid.bench.reference_pose import reference_mean_shift
from ffreid.engine.timing import in_turn, measure_alone, milliseconds, row
from ffreid.pose.objects import ycb_objects
from ffreid.pose.voting.frame import frame_poses
from ffreid.pose.voting.meanshift import mean_shift

BANDWIDTH = 0.04


def memory_rows(quick: bool) -> list[dict[str, Any]]:
    """Time the nine fits of one object with 4,000 votes, and the memory that they take."""
    votes = 400 if quick else 4000
    cost = measure_alone(_nine_fits, votes)
    stage = f"mean shift, 9 fits of {votes} votes"
    return [row(stage, cost.milliseconds, part=True, megabytes=cost.megabytes)]


def _nine_fits(count: int) -> Callable[[], object]:
    votes = torch.randn(9, count, 3, generator=torch.Generator().manual_seed(SEED))
    votes *= 0.01
    return lambda: mean_shift(votes, bandwidth=BANDWIDTH)


def voting_rows(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """Time the votes of a frame with five objects, by VOTE.MODE fast against exact.

    Of exact's fits of 300 votes, one of the centre and eight of keypoints for each object, those of
    the plain form are timed once.
    """
    sizes = [(30 if quick else 300, 0.0), (30 if quick else 300, 0.1), (60 if quick else 2000, 0.1)]
    rows: list[dict[str, Any]] = []
    for votes_each, outliers in sizes:
        tensors = five_object_frame(votes_each, torch.Generator().manual_seed(SEED), outliers)
        points, labels, centre_offsets, keypoint_offsets = (x.to(device) for x in tensors)
        vote = partial(frame_poses, points, labels, centre_offsets, keypoint_offsets, ycb_objects())
        fast, exact = (partial(vote, bandwidth=BANDWIDTH, mode=mode) for mode in ("fast", "exact"))
        size = f"5 objects x {votes_each} votes, {outliers:.0%} outliers"
        times = in_turn({"exact": exact, "fast": fast}, 3)
        rows += [
            row(f"voting and poses, {size}", times["exact"], part=bool(rows)),
            row("  VOTE.MODE fast (plain: exact)", times["fast"], times["exact"], part=True),
        ]
    points, labels, centre_offsets, keypoint_offsets = (
        x.to(device)
        for x in five_object_frame(sizes[0][0], torch.Generator().manual_seed(SEED), 0.05)
    )
    votes = points - torch.cat([centre_offsets, keypoint_offsets])
    fits = [votes[:, labels == class_id] for class_id in torch.unique(labels)]
    fast_ms = milliseconds(lambda: [mean_shift(group, bandwidth=BANDWIDTH) for group in fits], 3)
    slow_ms = milliseconds(
        lambda: [reference_mean_shift(fit, bandwidth=BANDWIDTH) for group in fits for fit in group],
        1,
    )
    return [*rows, row("  exact mean shift, 5 % outliers", fast_ms, slow_ms, part=True)]


def five_object_frame(
    votes_each: int, generator: torch.Generator, outliers: float = 0.05
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return points (N, 3), labels (N,), centre (1, N, 3) and keypoint offsets (8, N, 3) in metres.

    Five objects of YCB-Video, 25 cm apart; offsets have errors of 3 mm, those of `outliers` 20 cm.
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
    noise[torch.rand(len(noise), generator=generator) < outliers] *= 0.2 / 0.003
    offsets = (points[:, None] - targets + noise).transpose(0, 1)
    return points, labels, offsets[:1], offsets[1:]
