"""From a network (or ground truth labels) to scored poses, frame by frame."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ffreid.engine.timing import Stopwatch
from ffreid.pose.data.batch import GroundTruth, Inputs, PoseBatch, SkippedFrame
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.model.ffb6d import Outputs
from ffreid.pose.objects import ObjectModels
from ffreid.pose.scoring import InstanceScore, mesh_trees, score_frame
from ffreid.pose.visibility import visible_shares
from ffreid.pose.voting.frame import ObjectPose, frame_poses

Network = Callable[[Inputs], Outputs]
"""FFB6D, or what `build.for_evaluation` makes of it."""


@dataclass(frozen=True)
class FrameResult:
    """One evaluated frame: a score per true object and how much of it is seen; why it was skipped.

    Of the frames that are drawn `rgb` is the input image, (H, W, 3) uint8.
    """

    gt: GroundTruth
    poses: tuple[ObjectPose, ...]
    scores: tuple[InstanceScore, ...]
    skipped: str | None = None
    rgb: npt.NDArray[np.uint8] | None = None
    visible: tuple[float, ...] = ()


def estimate(
    batch: PoseBatch,
    net: Network | None,
    objects: ObjectModels,
    voting: Mapping[str, Any],
    *,
    watch: Stopwatch | None = None,
) -> list[list[ObjectPose]]:
    """Estimate the poses of every predicted object, a list per sample.

    The batch is on the device of the network, which is in evaluation mode; without a network the
    ground truth labels and offsets vote. `voting` are options of `frame_poses`; points are not
    relabelled where the objects have no radii.
    """
    watch = watch or Stopwatch()
    if net is None:
        labels = batch.targets.labels
        keypoints = batch.targets.keypoint_offsets.transpose(1, 2)
        centres = batch.targets.centre_offsets.unsqueeze(1)
    else:
        with torch.inference_mode(), watch("network"):
            outputs = net(batch.inputs)
        labels = outputs.segmentation.argmax(dim=1)
        keypoints, centres = outputs.keypoint_offsets, outputs.centre_offsets
    points = batch.inputs.features[:, :3].transpose(1, 2)
    options = {**voting, "relabel": voting["relabel"] and objects.radii is not None}
    with watch("voting"):
        return [
            frame_poses(points[i], labels[i], centres[i], keypoints[i], objects, **options)
            for i in range(len(batch))
        ]


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
    advance: Callable[[int], None] = lambda done: None,
) -> list[FrameResult]:
    """Score every frame of the batches (see `estimate`); skipped frames' objects count as missed.

    The images of frames whose index is below `keep_images` are kept. `advance` is called with the
    number of frames of each batch.
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
            estimated = estimate(batch.to(device, dtype), net, objects, voting, watch=watch)
            for i, (gt, poses) in enumerate(zip(batch.gts, estimated, strict=True)):
                with watch("scoring"):
                    scores = tuple(score_frame(gt, poses, objects, meshes, trees=trees))
                    visible = visible_shares(
                        gt,
                        meshes,
                        batch.targets.labels[i].numpy(),
                        batch.inputs.choose[i].numpy(),
                        (batch.inputs.rgb.shape[2], batch.inputs.rgb.shape[3]),
                    )
                rgb = None
                if gt.index < keep_images:
                    rgb = batch.inputs.rgb[i].permute(1, 2, 0).numpy().astype(np.uint8)
                results.append(FrameResult(gt, tuple(poses), scores, rgb=rgb, visible=visible))
        advance(len(skipped) + (len(batch) if batch is not None else 0))


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
