"""From a network (or the true labels) to scored poses, frame by frame."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ffreid.pose.data.batch import GroundTruth, PoseBatch, SkippedFrame
from ffreid.pose.objects import ObjectModels
from ffreid.pose.scoring import InstanceScore, mesh_trees, score_frame
from ffreid.pose.voting.frame import ObjectPose, frame_poses


@dataclass(frozen=True)
class Voting:
    """How offsets become poses; see `frame_poses`."""

    bandwidth: float = 0.04
    use_centre: bool = True
    filter_clusters: bool = True
    relabel: bool = True
    max_votes: int | None = None


@dataclass(frozen=True)
class FrameResult:
    """One evaluated frame: its scores, its poses, and why it was skipped, if it was.

    Attributes:
        truth: the frame.
        poses: what was estimated.
        scores: a row a true object.
        skipped: reason, or None.
        rgb: (H, W, 3) uint8 picture as fed, for the frames that are drawn; else None.
    """

    gt: GroundTruth
    poses: tuple[ObjectPose, ...]
    scores: tuple[InstanceScore, ...]
    skipped: str | None = None
    rgb: npt.NDArray[np.uint8] | None = None


def estimate(
    batch: PoseBatch, net: nn.Module | None, objects: ObjectModels, voting: Voting
) -> list[list[ObjectPose]]:
    """Estimate the poses of every object that is seen, a list a sample.

    Args:
        batch: on the network's device.
        net: in evaluation mode; None votes with the true labels and offsets instead.
        objects: that the network knows.
        voting: how.
    """
    if net is None:
        labels = batch.targets.labels
        keypoints = batch.targets.keypoint_offsets.transpose(1, 2)
        centres = batch.targets.centre_offsets.unsqueeze(1)
    else:
        with torch.inference_mode():
            outputs = net(batch.inputs)
        labels = outputs.segmentation.argmax(dim=1)
        keypoints, centres = outputs.keypoint_offsets, outputs.centre_offsets
    points = batch.inputs.features[:, :3].transpose(1, 2)
    return [
        frame_poses(
            points[i],
            labels[i],
            centres[i],
            keypoints[i],
            objects,
            bandwidth=voting.bandwidth,
            use_centre=voting.use_centre,
            filter_clusters=voting.filter_clusters,
            relabel=voting.relabel,
            max_votes=voting.max_votes,
        )
        for i in range(len(batch))
    ]


def evaluate_frames(
    items: Iterator[tuple[PoseBatch | None, list[SkippedFrame]]],
    net: nn.Module | None,
    objects: ObjectModels,
    mesh: Mapping[int, npt.NDArray[np.float32]],
    voting: Voting,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    pictures: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> list[FrameResult]:
    """Score every frame of `items`; skipped ones count their objects as missed.

    Args:
        items: batches and what could not be fed, from `collate_for_evaluation`.
        net: see `estimate`.
        objects: that the network knows.
        mesh: (P, 3) metres a class id.
        voting: how offsets become poses.
        device: of the network.
        dtype: of the network.
        pictures: keep the picture of frames whose index is below this.
        advance: told the number of frames just done.
    """
    results: list[FrameResult] = []
    trees = mesh_trees(mesh)
    for batch, skipped in items:
        for item in skipped:
            scores = tuple(score_frame(item.gt, [], objects, mesh, trees=trees))
            results.append(FrameResult(item.gt, (), scores, item.reason))
        if batch is not None:
            moved = batch.to(device, dtype)
            found = estimate(moved, net, objects, voting)
            for i, (gt, poses) in enumerate(zip(batch.gts, found, strict=True)):
                rgb = batch.inputs.rgb[i].permute(1, 2, 0).numpy().astype(np.uint8)
                results.append(
                    FrameResult(
                        gt,
                        tuple(poses),
                        tuple(score_frame(gt, poses, objects, mesh, trees=trees)),
                        rgb=rgb if gt.index < pictures else None,
                    )
                )
        advance(len(skipped) + (len(batch) if batch is not None else 0))
    return results


def pose_rows(results: Sequence[FrameResult], objects: ObjectModels) -> list[dict[str, Any]]:
    """Every estimated pose as plain data: frame, class, 3 x 4 matrix in metres, votes."""
    return [
        {
            "frame": result.gt.name,
            "class": objects.name(pose.class_id),
            "solved": pose.solved,
            "votes": pose.votes,
            "camera_from_object": pose.camera_from_object.tolist(),
        }
        for result in results
        for pose in result.poses
    ]
