"""Several objects of a class in one frame, told apart by the clusters of their centre votes."""

from typing import Any

import torch
from torch import Tensor

from ffreid.pose.objects import ObjectModels
from ffreid.pose.voting.frame import ObjectPose, frame_poses

LEAST_POINTS, LEAST_SHARE = 30, 0.2
"""Points of a cluster that gives a pose, and as a share of the largest cluster of its class."""
CANDIDATES, MOVES = 2000, 10
"""Votes at which clusters may start, and how often they are moved."""


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
        clusters = vote_clusters(votes[members], bandwidth)
        fullest = len(clusters[0]) if clusters else 0  # none where votes are kilometres away
        least = max(LEAST_POINTS, LEAST_SHARE * fullest)
        supported = [cluster for cluster in clusters if len(cluster) >= least]
        if len(supported) < 2:  # as without instances
            supported = [torch.arange(len(members), device=members.device)]
        for cluster in supported:
            own = torch.zeros_like(labels)
            own[members[cluster]] = class_id
            poses += frame_poses(
                points, own, centre_offsets, keypoint_offsets, objects,
                bandwidth=bandwidth, **options,
            )  # fmt: skip
    return poses


def vote_clusters(votes: Tensor, bandwidth: float) -> list[Tensor]:
    """Split votes (N, 3) into balls of the bandwidth, the fullest first: indices of their votes.

    Each ball is moved to the mean of its votes, until none comes or goes. Mean shift, which blurs
    the votes, would draw two objects at three bandwidths together.
    """
    left = torch.ones(len(votes), dtype=torch.bool, device=votes.device)
    step = -(-len(votes) // CANDIDATES)
    candidates = votes[::step]
    distances = torch.cdist(candidates, votes)
    clusters: list[Tensor] = []
    while bool(left.any()):
        densest = int(((distances < bandwidth) & left).sum(dim=1).argmax())
        near = (distances[densest] < bandwidth) & left
        for _ in range(MOVES):
            if not bool(near.any()):
                break
            centre = votes[near].mean(dim=0)
            moved = ((votes - centre).norm(dim=1) < bandwidth) & left
            if torch.equal(moved, near):
                break
            near = moved
        if not bool(near.any()) or (clusters and int(near.sum()) < LEAST_POINTS):
            break
        clusters.append(near.nonzero()[:, 0])
        left &= ~near
    return clusters
