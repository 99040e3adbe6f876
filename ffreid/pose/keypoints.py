"""Keypoints by farthest point sampling."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError


def farthest_points(
    points: npt.NDArray[np.floating[Any]],
    count: int,
    *,
    start: int | None = None,
    init_centre: bool = False,
) -> npt.NDArray[np.int32]:
    """Choose points one by one, each the farthest from those chosen before.

    Squared distances are float32 and the first of equals wins, as in the original. The first point
    is row `start`, or the farthest from the bounding box's centre, which counts as already chosen
    with `init_centre`. Returns (count,) int32 rows of `points` (P, 3).
    """
    if not 1 <= count <= len(points):
        raise UserError(
            f"cannot choose {count} keypoints of {len(points)} points", "choose fewer, at least 1"
        )
    cloud = points.astype(np.float32)
    centre = (cloud.max(axis=0) + cloud.min(axis=0)) / np.float32(2)
    to_centre = _squared_distances(cloud, centre)
    first = int(to_centre.argmax()) if start is None else start
    nearest = to_centre if init_centre else np.full(len(cloud), np.inf, np.float32)
    chosen = [first]
    while len(chosen) < count:
        nearest = np.minimum(nearest, _squared_distances(cloud, cloud[chosen[-1]]))
        chosen.append(int(nearest.argmax()))
    return np.array(chosen, np.int32)


def _squared_distances(
    cloud: npt.NDArray[np.float32], point: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    x, y, z = (cloud - point).T
    return np.asarray(x * x + y * y + z * z, np.float32)
