"""How long the stages of one frame take here, beside the plain forms of what was made faster."""

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ffreid.pose.objects import ycb_objects
from ffreid.pose.voting.frame import frame_poses
from ffreid.pose.voting.meanshift import mean_shift
from ffreid.pose.voting.plain import plain_mean_shift

BANDWIDTH = 0.04
_SEED = 0


def bench(quick: bool) -> list[dict[str, Any]]:
    """Time every stage on made-up data.

    Args:
        quick: small inputs and few repetitions, for a look within seconds.

    Returns:
        A row a measurement: ``stage``, ``milliseconds``, ``share`` of a frame's time (None for
        what is part of another row), ``plain milliseconds`` and ``ratio`` (None where there is
        no plain form).
    """
    rows = [row for stage in STAGES for row in stage(quick)]
    total = sum(row["milliseconds"] for row in rows if row["share"] is not None)
    for row in rows:
        if row["share"] is not None:
            row["share"] = row["milliseconds"] / total
    return rows


def voting_rows(quick: bool) -> list[dict[str, Any]]:
    """Time the votes of a frame with five objects: the fits against their plain form, and all.

    The fits are one of the centre and eight of keypoints for each object; 5 % of the votes are
    far off, which is what makes mean shift take its time.
    """
    votes_each = 150 if quick else 600
    repeats = 3 if quick else 5
    generator = torch.Generator().manual_seed(_SEED)
    frame = five_object_frame(votes_each, generator)
    points, labels, centre_offsets, keypoint_offsets = frame
    votes = points - torch.cat([centre_offsets, keypoint_offsets])
    fits = [votes[:, labels == class_id] for class_id in torch.unique(labels)]

    def plain() -> None:
        for group in fits:
            for fit in group:
                plain_mean_shift(fit, bandwidth=BANDWIDTH)

    def batched() -> None:
        for group in fits:
            mean_shift(group, bandwidth=BANDWIDTH)

    fast, slow = milliseconds(batched, repeats), milliseconds(plain, 1)
    whole = milliseconds(lambda: frame_poses(*frame, ycb_objects(), bandwidth=BANDWIDTH), repeats)
    size = f"5 objects x {votes_each} votes"
    return [
        {
            "stage": f"mean shift, {size}",
            "milliseconds": fast,
            "share": None,
            "plain milliseconds": slow,
            "ratio": slow / fast,
        },
        {
            "stage": f"voting and poses, {size}",
            "milliseconds": whole,
            "share": 0.0,
            "plain milliseconds": None,
            "ratio": None,
        },
    ]


STAGES: tuple[Callable[[bool], list[dict[str, Any]]], ...] = (voting_rows,)
"""The stages of a frame; each gives its rows, those that `share` a frame's time with 0.0."""


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Give the median wall time of `call`, after one to warm up where there are several."""
    if repeats > 1:
        call()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append((perf_counter() - start) * 1000)
    return median(times)


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
