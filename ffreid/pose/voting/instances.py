"""Several objects of a class in one frame, told apart by the clusters of their centre votes."""

from typing import Any

import torch
from torch import Tensor

from ffreid.pose.objects import ObjectModels
from ffreid.pose.voting.frame import ObjectPose, frame_poses
from ffreid.pose.voting.meanshift import mean_shift_clusters

LEAST_POINTS, LEAST_SHARE = 30, 0.2
"""Points of a cluster that gives a pose, and as a share of the largest cluster of its class."""


def instance_poses(
    points: Tensor,
    labels: Tensor,
    centre_offsets: Tensor,
    keypoint_offsets: Tensor,
    objects: ObjectModels,
    *,
    bandwidth: float = 0.04,
    **options: Any,
) -> list[ObjectPose]:
    """Estimate a pose for every cluster of a class's centre votes that has enough support.

    Arguments are those of `frame_poses`, without relabelling. Objects whose centres are closer
    than the bandwidth count as one.

    Returns:
        The poses in order of class, those of a class in order of support.
    """
    options["relabel"] = False
    votes = points - centre_offsets.reshape(-1, 3)
    poses = []
    for class_id in (int(c) for c in torch.unique(labels) if c > 0):
        members = (labels == class_id).nonzero()[:, 0]
        _, clusters, sizes = mean_shift_clusters(votes[members], bandwidth=bandwidth)
        least = max(LEAST_POINTS, LEAST_SHARE * float(sizes.max()))
        for number, size in enumerate(sizes.tolist(), 1):
            if size < least and number > 1:  # without any other, as without instances
                continue
            own = torch.zeros_like(labels)
            own[members[clusters == number]] = class_id
            poses += frame_poses(
                points, own, centre_offsets, keypoint_offsets, objects,
                bandwidth=bandwidth, **options,
            )  # fmt: skip
    return poses
