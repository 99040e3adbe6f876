"""How much of an object is seen in a frame."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.pose.data.batch import GroundTruth
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.metrics import transform


def visible_shares(
    gt: GroundTruth,
    meshes: Meshes,
    labels: npt.NDArray[np.integer],
    choose: npt.NDArray[np.integer],
    size: tuple[int, int],
) -> tuple[float, ...]:
    """Share of each true object of a frame that is seen, from 0 to 1.

    The points on the object over those that its whole silhouette within the image would have at
    the same number of points a pixel; what has no depth is not seen. `labels` and `choose` are
    (N,), class and flat pixel of each point, of an image of `size` (height, width).
    """
    pixels, first = np.unique(choose, return_index=True)  # points repeat where depth is sparse
    labels = labels[first]
    density = len(pixels) / (size[0] * size[1])
    shares = []
    for class_id, pose in zip(gt.class_ids.tolist(), gt.camera_from_object, strict=True):
        area = _silhouette(transform(pose, meshes[class_id]) @ gt.intrinsics.T, size)
        seen = int((labels == class_id).sum())
        shares.append(min(1.0, seen / (area * density)) if area else 0.0)
    return tuple(shares)


def _silhouette(points: npt.NDArray[np.float64], size: tuple[int, int]) -> int:
    """Number of pixels of an object, from its projected points (P, 3) as u z, v z, z.

    Gaps between the points are closed; they are about as far from each other as are as many points
    that fill the convex hull.
    """
    points = points[points[:, 2] > 0]
    if len(points) < 3:
        return 0
    place = (points[:, :2] / points[:, 2:]).round().clip(-(2**14), 2**14).astype(np.int32)
    gap = math.ceil(1.5 * math.sqrt(cv2.contourArea(cv2.convexHull(place)) / len(place)))
    mask = np.zeros(size, np.uint8)
    inside = ((place >= 0) & (place < (size[1], size[0]))).all(axis=1)
    mask[place[inside, 1], place[inside, 0]] = 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * gap + 1, 2 * gap + 1))
    return int(cv2.countNonZero(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)))
