"""From one frame's labels and offsets to the poses of its objects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffreid.errors import UserError
from ffreid.pose.objects import ObjectModels
from ffreid.pose.voting.meanshift import mean_shift
from ffreid.pose.voting.modes import find_modes

Floats = npt.NDArray[np.floating]
Fit = tuple[Tensor, Tensor]
"""Of one object F centres (F, 3) and their inliers (F, N) bool among its votes."""

RELABEL_WITHIN = 0.8
"""Fraction of an object's radius around its voted centre in which points are relabelled."""


@dataclass(frozen=True)
class ObjectPose:
    """Estimated pose of one object; see `ffreid.pose.predictor.Pose`.

    `keypoints` are (K + 1, 3) with the centre, (K, 3) without; zeros where not `solved`.
    """

    class_id: int
    camera_from_object: npt.NDArray[np.float64]
    keypoints: npt.NDArray[np.float64]
    solved: bool
    votes: int


def _mean_shifts(votes: Sequence[Tensor], *, bandwidth: float) -> list[Fit]:
    """`mean_shift` of one object after the other."""
    return [mean_shift(own, bandwidth=bandwidth)[:2] for own in votes]


MODES: dict[str, Callable[..., list[Fit]]] = {"exact": _mean_shifts, "fast": find_modes}
"""VOTE.MODE: FFB6D's blurring mean shift, or seeds that climb to a mode of the votes' density."""


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
    mode: str = "exact",
) -> list[ObjectPose]:
    """Vote for every object's keypoints and fit its pose to them.

    The defaults are the original's YCB-Video evaluation; its ``use_ctr_clus_flter=False`` is
    ``filter_clusters=False, relabel=False``; its LineMOD evaluation is ``relabel=False``. The only
    object of a dataset is always reported, as in the original, unsolved if no point has its label.

    Args:
        points: (N, 3) camera frame, metres.
        labels: (N,) predicted class ids, 0 is background.
        centre_offsets: (N, 3) or (1, N, 3) predicted point minus centre, metres.
        keypoint_offsets: (K, N, 3) predicted point minus keypoint, metres.
        bandwidth: of mean shift, metres.
        use_centre: use the centre as one more point in the rigid fit.
        filter_clusters: only points in the cluster of the centre vote for keypoints.
        relabel: first assign points near the voted centre of another object to that object; needs
            the objects' radii.
        max_votes: limit of the points per object, evenly spread over its list; None is all.
        mode: one of `MODES`.

    Returns:
        One pose for each class among `labels`, in order of class.

    Raises:
        UserError: an offset is NaN or infinite.
    """
    offsets = centre_offsets.reshape(-1, 3)
    if not bool(torch.isfinite(offsets).all() & torch.isfinite(keypoint_offsets).all()):
        raise UserError(
            "the network's offsets contain NaN or infinity",
            "training has diverged: evaluate an earlier checkpoint",
        )
    centre_votes, keypoint_votes = points - offsets, points - keypoint_offsets

    def choose_voters(class_id: int) -> Tensor:
        members = (labels == class_id).nonzero()[:, 0]
        if max_votes is None or len(members) <= max_votes:
            return members
        return members[torch.arange(max_votes, device=labels.device) * len(members) // max_votes]

    def vote(votes: Tensor, voters: Mapping[int, Tensor]) -> dict[int, Fit]:
        """Fit the votes (F, N, 3) of each class's voters."""
        found = MODES[mode]([votes[:, own] for own in voters.values()], bandwidth=bandwidth)
        return dict(zip(voters, found, strict=True))

    class_ids = [int(c) for c in torch.unique(labels) if c > 0]
    voters: dict[int, Tensor] = {}
    centres: dict[int, Fit] = {}
    if relabel and class_ids:
        voters = {c: choose_voters(c) for c in class_ids}
        centres = vote(centre_votes[None], voters)
        labels = _relabel(labels, centre_votes, centres, objects)
    if len(objects) == 1:
        class_ids = [1]
    earlier, voters = voters, {c: own for c in class_ids if len(own := choose_voters(c))}
    changed = {
        c: own for c, own in voters.items() if c not in earlier or not torch.equal(earlier[c], own)
    }
    centres |= vote(centre_votes[None], changed)
    if filter_clusters:
        voters = {c: own[centres[c][1][0]] for c, own in voters.items()}
    found = vote(keypoint_votes, voters)
    poses = []
    for class_id in class_ids:
        model = model_points(objects, class_id, use_centre).numpy()
        if class_id not in voters:
            keypoints = np.zeros(model.shape)
            poses.append(ObjectPose(class_id, np.eye(4)[:3], keypoints, solved=False, votes=0))
            continue
        voted = found[class_id][0]
        if use_centre:
            voted = torch.cat([voted, centres[class_id][0]])
        keypoints = voted.to("cpu", torch.float64).numpy()
        pose, votes = best_fit_transform(model, keypoints), len(voters[class_id])
        poses.append(ObjectPose(class_id, pose, keypoints, solved=True, votes=votes))
    return poses


def model_points(objects: ObjectModels, class_id: int, use_centre: bool = True) -> Tensor:
    """The (K + 1, 3) or (K, 3) keypoints (and centre) of a class, object frame, metres."""
    keypoints = torch.from_numpy(objects.keypoints[class_id - 1])
    if not use_centre:
        return keypoints
    return torch.cat([keypoints, torch.from_numpy(objects.centres[class_id - 1])[None]])


def _relabel(
    labels: Tensor, centre_votes: Tensor, centres: Mapping[int, Fit], objects: ObjectModels
) -> Tensor:
    """Assign points whose centre vote is near a class's centre to the nearest such class."""
    assert objects.radii is not None, f"{objects.dataset} has no radii to relabel by"
    class_ids = torch.tensor(list(centres), device=labels.device)
    positions = torch.cat([position for position, _ in centres.values()])
    reach = torch.from_numpy(objects.radii).to(positions)[class_ids - 1] * RELABEL_WITHIN
    distances = (centre_votes[:, None] - positions[None]).norm(dim=2)
    nearest_distance, nearest = distances.min(dim=1)
    moves = (labels > 0) & (nearest_distance < reach[nearest])
    return torch.where(moves, class_ids[nearest].to(labels.dtype), labels)


def best_fit_transform(source: Floats, target: Floats) -> npt.NDArray[np.float64]:
    """Minimise the squared distances ``R source + t - target`` of (..., P, 3) points.

    Kabsch 1976; Arun et al. 1987. Never a reflection; for points in a plane or on a line one of
    the equally good rotations.

    Returns:
        (..., 3, 4) float64 ``[R | t]``.
    """
    source, target = source.astype(np.float64), target.astype(np.float64)
    source_centre, target_centre = source.mean(axis=-2), target.mean(axis=-2)
    covariance = np.swapaxes(source - source_centre[..., None, :], -1, -2) @ (
        target - target_centre[..., None, :]
    )
    left, _, right = np.linalg.svd(covariance)
    mirrored = np.linalg.det(left @ right) < 0
    right[mirrored, 2] *= -1
    rotation = np.swapaxes(left @ right, -1, -2)
    translation = target_centre - (rotation @ source_centre[..., None])[..., 0]
    return np.concatenate([rotation, translation[..., None]], axis=-1)
