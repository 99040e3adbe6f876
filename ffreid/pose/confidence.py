"""How far the evidence supports an estimated pose, without ground truth: the raw score."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import geometric_mean

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ffreid.pose.data.meshes import Meshes
from ffreid.pose.metrics import transform
from ffreid.pose.objects import ObjectModels
from ffreid.pose.voting.frame import ObjectPose, model_points

Floats = npt.NDArray[np.floating]

FULL_SUPPORT = 100.0
"""Votes of which 63 % of the support come."""
WITHIN = 0.1
"""Of the object's size: residuals and depth differences that still agree with a pose."""
CELLS = 24
"""Cells per side of a model's picture; the nearest vertex in each is visible."""
LEAST = 1e-3
NEAR = 0.01
"""Metres in front of the camera from which on vertices are seen."""


@dataclass(frozen=True)
class Evidence:
    """What supports a pose, each from 0 to 1.

    Attributes:
        support: saturating number of voting points.
        inliers: share of the points labelled as the object that voted.
        fit: 1 where the object's keypoints fit the voted ones exactly.
        depth: share of the visible vertices at whose pixels the measured depth agrees; None
            without a mesh.
    """

    support: float
    inliers: float
    fit: float
    depth: float | None

    @property
    def score(self) -> float:
        """The raw score: the geometric mean. It ranks poses, but is no probability."""
        parts = (self.support, self.inliers, self.fit, self.depth)
        return geometric_mean(max(part, LEAST) for part in parts if part is not None)


def weigh_all(
    poses: Sequence[ObjectPose],
    objects: ObjectModels,
    *,
    points: Floats,
    labels: npt.NDArray[np.integer],
    intrinsics: Floats,
    meshes: Meshes,
) -> list[Evidence]:
    """Weigh the evidence for all poses of a frame, see `weigh`.

    `labels` are the (N,) classes of the points; each point of a class with several poses counts
    for the nearest. Classes without a mesh are weighed without depth.
    """
    found = []
    for pose in poses:
        own = points[labels == pose.class_id]
        others = [other for other in poses if other.class_id == pose.class_id]
        centres = np.array([other.keypoints.mean(axis=0) for other in others])
        distances = np.linalg.norm(own[:, None] - centres[None], axis=2)
        nearest = distances.argmin(axis=1) == next(i for i, o in enumerate(others) if o is pose)
        evidence = weigh(
            pose,
            objects,
            points=points,
            labelled=int(nearest.sum()),
            intrinsics=intrinsics,
            vertices=meshes.get(pose.class_id),
        )
        found.append(evidence)
    return found


def weigh(
    pose: ObjectPose,
    objects: ObjectModels,
    *,
    points: Floats,
    labelled: int,
    intrinsics: Floats,
    vertices: Floats | None,
) -> Evidence:
    """Weigh the evidence for a pose.

    Args:
        pose: solved or not.
        objects: of the network.
        points: (N, 3) measured points that the network saw, camera frame, metres.
        labelled: number of them with the label of the object.
        intrinsics: (3, 3) of the image that the points are of.
        vertices: (P, 3) of the object's mesh, object frame, metres.
    """
    if not pose.solved:
        return Evidence(0.0, 0.0, 0.0, None if vertices is None else 0.0)
    model = model_points(
        objects, pose.class_id, pose.keypoints.shape[0] > objects.keypoints.shape[1]
    )
    residuals = pose.keypoints - transform(pose.camera_from_object, model.numpy())
    size = float(np.linalg.norm(np.ptp(objects.keypoints[pose.class_id - 1], axis=0)))
    residual = float(np.sqrt((residuals**2).sum(axis=1).mean()))
    return Evidence(
        support=1 - float(np.exp(-pose.votes / FULL_SUPPORT)),
        inliers=min(1.0, pose.votes / max(1, labelled)),
        fit=float(np.exp(-residual / (WITHIN * size))),
        depth=None
        if vertices is None
        else _agreement(pose.camera_from_object, vertices, points, intrinsics, WITHIN * size),
    )


def _agreement(
    pose: Floats, vertices: Floats, points: Floats, intrinsics: Floats, within: float
) -> float:
    """Share of the visible vertices whose depth is that of the nearest point in the image."""
    seen = transform(pose, vertices[visible(pose, vertices, intrinsics)])
    if not len(seen):
        return 0.0
    pixels = _project(seen, intrinsics)
    measured = points[points[:, 2] > 0]
    _, nearest = cKDTree(_project(measured, intrinsics)).query(pixels)
    differences = np.abs(measured[nearest, 2] - seen[:, 2])
    return float((differences < within).mean())


def visible(pose: Floats, vertices: Floats, intrinsics: Floats) -> npt.NDArray[np.int64]:
    """Indices of the vertices (P, 3) that are nearest to the camera in their cell of the image."""
    seen = transform(pose, vertices)
    in_front = np.flatnonzero(seen[:, 2] > NEAR)
    if not len(in_front):
        return in_front
    pixels = _project(seen[in_front], intrinsics)
    low = pixels.min(axis=0)
    cell = float((pixels.max(axis=0) - low).max()) / CELLS + 1e-9
    columns, rows = ((pixels - low) // cell).astype(np.int64).T
    order = np.lexsort((seen[in_front, 2], columns, rows))
    keys = (rows * (CELLS + 1) + columns)[order]
    return in_front[order[np.r_[True, keys[1:] != keys[:-1]]]]


def _project(points: Floats, intrinsics: Floats) -> npt.NDArray[np.float64]:
    projected = points @ intrinsics.T
    return np.asarray(projected[:, :2] / projected[:, 2:], np.float64)
