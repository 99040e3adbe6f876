"""From a network (or ground truth labels) to scored poses, frame by frame."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffreid.engine.timing import Stopwatch
from ffreid.pose.confidence import weigh_all
from ffreid.pose.data.batch import GroundTruth, Inputs, PoseBatch, SkippedFrame
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.model.ffb6d import Outputs
from ffreid.pose.objects import ObjectModels
from ffreid.pose.scoring import InstanceScore, mesh_trees, score_frame
from ffreid.pose.visibility import visible_shares
from ffreid.pose.voting.frame import ObjectPose, frame_poses
from ffreid.pose.voting.instances import instance_poses

Network = Callable[[Inputs], Outputs]
"""FFB6D, or what `build.for_evaluation` makes of it."""


@dataclass(frozen=True)
class FrameResult:
    """One evaluated frame: a score per true object and how much of it is seen; why it was skipped.

    Of the frames that are drawn `rgb` is the input image, (H, W, 3) uint8. `raw_scores` are of the
    poses, where they were asked for.
    """

    gt: GroundTruth
    poses: tuple[ObjectPose, ...]
    scores: tuple[InstanceScore, ...]
    skipped: str | None = None
    rgb: npt.NDArray[np.uint8] | None = None
    visible: tuple[float, ...] = ()
    raw_scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Votes:
    """What votes in a batch: points (B, N, 3), labels (B, N), offsets as in `Outputs`."""

    points: Tensor
    labels: Tensor
    centre_offsets: Tensor
    keypoint_offsets: Tensor


def network_votes(batch: PoseBatch, net: Network | None) -> Votes:
    """Run the network on a batch; without one the ground truth labels and offsets vote.

    The batch is on the device of the network, which is in evaluation mode.
    """
    points = batch.inputs.features[:, :3].transpose(1, 2)
    if net is None:
        targets = batch.targets
        keypoints = targets.keypoint_offsets.transpose(1, 2)
        return Votes(points, targets.labels, targets.centre_offsets.unsqueeze(1), keypoints)
    with torch.inference_mode():
        outputs = net(batch.inputs)
    labels = outputs.segmentation.argmax(dim=1)
    return Votes(points, labels, outputs.centre_offsets, outputs.keypoint_offsets)


def poses_of(
    votes: Votes, objects: ObjectModels, voting: Mapping[str, Any], *, instances: bool = False
) -> list[list[ObjectPose]]:
    """Estimate the poses of every labelled object, a list per sample.

    `voting` are options of `frame_poses`; points are not relabelled where the objects have no
    radii. With `instances` several objects of a class are told apart.
    """
    options = {**voting, "relabel": voting["relabel"] and objects.radii is not None}
    solve = instance_poses if instances else frame_poses
    tensors = (votes.points, votes.labels, votes.centre_offsets, votes.keypoint_offsets)
    return [solve(*sample, objects, **options) for sample in zip(*tensors, strict=True)]


def evaluate_frames(
    batches: Iterator[tuple[PoseBatch | None, list[SkippedFrame]]],
    net: Network | None,
    objects: ObjectModels,
    meshes: Meshes,
    voting: Mapping[str, Any],
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    keep_images: int = 0,
    watch: Stopwatch | None = None,
    rate: bool = False,
    instances: bool = False,
    visibility: bool = False,
    rated_on: Meshes | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> list[FrameResult]:
    """Score every frame of the batches (see `poses_of`); skipped frames' objects count as missed.

    The images of frames whose index is below `keep_images` are kept. With `rate` poses have raw
    scores, of the points `rated_on` instead of the meshes; with `instances` several objects of a
    class are told apart. `advance` is called with the number of frames of each batch.
    """
    results: list[FrameResult] = []
    watch = watch or Stopwatch()
    trees = mesh_trees(meshes)
    while True:
        with watch("loading"):
            item = next(batches, None)
        if item is None:
            return results
        batch, skipped = item
        for frame in skipped:
            scores = tuple(score_frame(frame.gt, [], objects, meshes, trees=trees))
            unseen = (0.0,) * len(scores)
            results.append(FrameResult(frame.gt, (), scores, frame.reason, visible=unseen))
        if batch is not None:
            with watch("network"):
                votes = network_votes(batch.to(device, dtype), net)
            with watch("voting"):
                estimated = poses_of(votes, objects, voting, instances=instances)
            for i, (gt, poses) in enumerate(zip(batch.gts, estimated, strict=True)):
                with watch("scoring"):
                    scores = tuple(score_frame(gt, poses, objects, meshes, trees=trees))
                    visible = _visible(batch, i, meshes) if visibility else ()
                rgb = None
                if gt.index < keep_images:
                    rgb = batch.inputs.rgb[i].permute(1, 2, 0).numpy().astype(np.uint8)
                raw: tuple[float, ...] = ()
                if rate:
                    evidence = weigh_all(
                        poses,
                        objects,
                        points=votes.points[i].cpu().numpy(),
                        labels=votes.labels[i].cpu().numpy(),
                        intrinsics=gt.intrinsics,
                        meshes=meshes if rated_on is None else rated_on,
                    )
                    raw = tuple(each.score for each in evidence)
                results.append(
                    FrameResult(gt, tuple(poses), scores, rgb=rgb, visible=visible, raw_scores=raw)
                )
        advance(len(skipped) + (len(batch) if batch is not None else 0))


def _visible(batch: PoseBatch, index: int, meshes: Meshes) -> tuple[float, ...]:
    """How much of each true object of a frame of the batch is seen."""
    inputs = batch.inputs
    return visible_shares(
        batch.gts[index],
        meshes,
        batch.targets.labels[index].numpy(),
        inputs.choose[index].numpy(),
        (inputs.rgb.shape[2], inputs.rgb.shape[3]),
    )


def pose_rows(results: Sequence[FrameResult], objects: ObjectModels) -> list[dict[str, Any]]:
    """Every estimated pose for JSON: frame, class, 3 x 4 matrix in metres, votes."""
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
