"""From one frame's labels and offsets to the poses of its objects."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffreid.errors import UserError
from ffreid.pose.objects import ObjectModels
from ffreid.pose.voting.kabsch import best_fit_transform
from ffreid.pose.voting.meanshift import mean_shift

RELABEL_WITHIN = 0.8
"""Share of an object's radius around its voted centre in which points are taken for it."""


@dataclass(frozen=True)
class ObjectPose:
    """One object as found in a frame.

    Attributes:
        class_id: 1 … M.
        camera_from_object: (3, 4) float64, metres; the identity where not `solved`.
        keypoints: (K + 1, 3) float64 voted keypoints and centre, camera frame, metres; (K, 3)
            where the centre takes no part; zeros where not `solved`.
        solved: False where the class was predicted but no point was left to vote; the original
            reports the identity then and scores it.
        votes: points that voted for the keypoints.
    """

    class_id: int
    camera_from_object: npt.NDArray[np.float64]
    keypoints: npt.NDArray[np.float64]
    solved: bool
    votes: int


@dataclass(frozen=True)
class _Centre:
    """A voted centre (3,), who agrees (V,), and the indices (V,) of those asked."""

    position: Tensor
    inliers: Tensor
    voters: Tensor


def frame_poses(
    points: Tensor,
    labels: Tensor,
    centre_offsets: Tensor,
    keypoint_offsets: Tensor,
    objects: ObjectModels,
    *,
    bandwidth: float = 0.04,
    use_centre: bool = True,
    filter_clusters: bool = True,
    relabel: bool = True,
    max_votes: int | None = None,
) -> list[ObjectPose]:
    """Let every object's points vote for its keypoints and fit its pose to them.

    The original's YCB-Video evaluation is the default; its ``use_ctr_clus_flter=False`` is
    ``filter_clusters=False, relabel=False``; its LineMOD evaluation is ``relabel=False``. At most
    one pose a class. A set of one object is always reported, as the original does, unsolved where
    no point has its label.

    Args:
        points: (N, 3) camera frame, metres.
        labels: (N,) predicted class ids, 0 is background.
        centre_offsets: (N, 3) or (1, N, 3) predicted point minus centre, metres.
        keypoint_offsets: (K, N, 3) predicted point minus keypoint, metres.
        objects: the set that the class ids count in.
        bandwidth: of mean shift, metres.
        use_centre: let the centre be one more point of the rigid fit.
        filter_clusters: let only those points vote for keypoints whose centre votes agree.
        relabel: first give points near the voted centre of another object to that object; needs
            the objects' radii.
        max_votes: let at most this many points of an object vote, evenly spread over its list;
            None lets all.

    Returns:
        One pose for each class among `labels`, in order of class.

    Raises:
        UserError: an offset is NaN or infinite.
    """
    offsets = centre_offsets.reshape(-1, 3)
    if not bool(torch.isfinite(offsets).all() & torch.isfinite(keypoint_offsets).all()):
        raise UserError(
            "the network's offsets hold NaN or infinity",
            "its training has diverged: evaluate an earlier checkpoint",
        )
    centre_votes, keypoint_votes = points - offsets, points - keypoint_offsets
    class_ids = [int(c) for c in torch.unique(labels) if c > 0]
    centres: dict[int, _Centre] = {}
    if relabel and class_ids:
        members = {c: _members(labels, c, max_votes) for c in class_ids}
        centres = {c: _vote_centre(centre_votes, members[c], bandwidth) for c in class_ids}
        labels = _relabel(labels, centre_votes, centres, objects)
    if len(objects) == 1:
        class_ids = [1]
    poses = []
    for class_id in class_ids:
        voters = _members(labels, class_id, max_votes)
        if not len(voters):
            poses.append(_unsolved(class_id, objects, use_centre))
            continue
        centre = centres.get(class_id)
        if centre is None or not torch.equal(centre.voters, voters):
            centre = _vote_centre(centre_votes, voters, bandwidth)
        agreeing = voters[centre.inliers] if filter_clusters else voters
        voted, _, _ = mean_shift(keypoint_votes[:, agreeing], bandwidth=bandwidth)
        position = centre.position if use_centre else None
        poses.append(_fit(class_id, voted, position, len(agreeing), objects))
    return poses


def model_points(objects: ObjectModels, class_id: int, use_centre: bool = True) -> Tensor:
    """Give the (K + 1, 3) or (K, 3) keypoints (and centre) of a class, object frame, metres."""
    keypoints = torch.from_numpy(objects.keypoints[class_id - 1])
    if not use_centre:
        return keypoints
    return torch.cat([keypoints, torch.from_numpy(objects.centres[class_id - 1])[None]])


def _members(labels: Tensor, class_id: int, max_votes: int | None) -> Tensor:
    """Give the indices of the points of a class that may vote."""
    members = (labels == class_id).nonzero()[:, 0]
    if max_votes is None or len(members) <= max_votes:
        return members
    return members[torch.arange(max_votes, device=labels.device) * len(members) // max_votes]


def _vote_centre(centre_votes: Tensor, voters: Tensor, bandwidth: float) -> _Centre:
    centres, inliers, _ = mean_shift(centre_votes[voters][None], bandwidth=bandwidth)
    return _Centre(centres[0], inliers[0], voters)


def _relabel(
    labels: Tensor, centre_votes: Tensor, centres: dict[int, _Centre], objects: ObjectModels
) -> Tensor:
    """Give points whose centre vote falls near a class's centre to the nearest such class."""
    assert objects.radii is not None, f"{objects.dataset} has no radii to relabel by"
    class_ids = torch.tensor(list(centres), device=labels.device)
    positions = torch.stack([centre.position for centre in centres.values()])
    reach = torch.from_numpy(objects.radii).to(positions)[class_ids - 1] * RELABEL_WITHIN
    distances = (centre_votes[:, None] - positions[None]).norm(dim=2)
    nearest_distance, nearest = distances.min(dim=1)
    taken = (labels > 0) & (nearest_distance < reach[nearest])
    return torch.where(taken, class_ids[nearest].to(labels.dtype), labels)


def _fit(
    class_id: int, voted: Tensor, centre: Tensor | None, votes: int, objects: ObjectModels
) -> ObjectPose:
    model = model_points(objects, class_id, use_centre=centre is not None).numpy()
    if centre is not None:
        voted = torch.cat([voted, centre[None]])
    keypoints = voted.to("cpu", torch.float64).numpy()
    return ObjectPose(class_id, best_fit_transform(model, keypoints), keypoints, True, votes)


def _unsolved(class_id: int, objects: ObjectModels, use_centre: bool) -> ObjectPose:
    count = objects.keypoints.shape[1] + int(use_centre)
    return ObjectPose(class_id, np.eye(4)[:3], np.zeros((count, 3)), False, 0)
