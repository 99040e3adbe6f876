"""Pose errors: ADD, ADD-S, the area under their curves, keypoint errors (metres).

ADD is Hinterstoisser et al. 2012; ADD-S and the area up to 10 cm are PoseCNN's (Xiang et al.
2018), computed as its toolbox and FFB6D do, peculiarities included.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.floating]


class SearchTree(Protocol):
    """What finds the nearest of its points, as `scipy.spatial.cKDTree` does."""

    def query(self, x: Any, /, *, workers: int) -> tuple[Any, Any]:
        """Return the distances (Q,) of `x` (Q, 3) to the nearest points, and what else."""


# Rotations as exact as this keep distances to a millionth of the object's size.
_ORTHONORMAL_WITHIN = 1e-6


def transform(pose: Floats, points: Floats) -> npt.NDArray[np.float64]:
    """Move `points` (P, 3) by `pose` (3, 4), in float64."""
    precise = pose.astype(np.float64)
    return np.asarray(points.astype(np.float64) @ precise[:, :3].T + precise[:, 3])


def add(points: Floats, predicted: Floats, true: Floats) -> float:
    """ADD: mean distance between the (P, 3) mesh vertices under both (3, 4) poses, metres."""
    return _mean_length(transform(predicted, points) - transform(true, points))


def _mean_length(vectors: npt.NDArray[np.float64]) -> float:
    """Mean length of (P, 3) vectors, bit for bit numpy's norm, which takes five times as long."""
    squared = vectors * vectors
    return float(np.sqrt(squared[:, 0] + squared[:, 1] + squared[:, 2]).mean())


def adds(
    points: Floats, predicted: Floats, true: Floats, *, tree: SearchTree | None = None
) -> float:
    """ADD-S: mean distance from each vertex under the true pose to the nearest predicted one.

    `points` are (P, 3) mesh vertices in metres, the poses (3, 4); the predicted one need not be
    rigid (a missed object is scored at zeros). With a `tree` of `points` a rigid prediction is
    searched in the object's frame, with the same distances, and no tree is built.
    """
    queries = transform(true, points)
    rotation = predicted[:, :3].astype(np.float64)
    rigid = np.abs(rotation @ rotation.T - np.eye(3)).max() < _ORTHONORMAL_WITHIN
    if tree is not None and rigid:
        queries = (queries - predicted[:, 3]) @ rotation
    elif not rotation.any():
        # All points coincide, which makes a tree slow.
        return _mean_length(queries - predicted[:, 3])
    else:
        tree = cKDTree(transform(predicted, points))
    return float(tree.query(queries, workers=-1)[0].mean())


def keypoint_error(predicted: Floats, true: Floats) -> float:
    """Mean distance between predicted and true keypoints (K, 3)."""
    return float(np.linalg.norm(predicted - true, axis=1).mean())


def auc(distances: Sequence[float] | Floats, max_distance: float = 0.1) -> float:
    """Area under the accuracy-threshold curve up to 10 cm, percent; 0 if no distance is below.

    Kept from the original: each interval counts with the accuracy at its right end, of equal
    distances only the first counts, accuracy is float32, and the curve always ends at 0.1, so
    that another `max_distance` drops far ones but does not change the scale. Metres, any order.
    """
    within = np.sort(np.asarray(distances, np.float64))
    within = within[within <= max_distance]
    if not len(within):
        return 0.0
    accuracy = np.arange(1, len(within) + 1, dtype=np.float32) / np.float32(len(distances))
    widths = np.diff(np.concatenate([[0.0], within, [0.1]]))
    height = np.concatenate([accuracy, accuracy[-1:]])
    return float((widths * height).sum() * 10 * 100)


def accuracy_below(distances: Sequence[float] | Floats, limit: float | Floats) -> float:
    """Percentage of `distances` below `limit` (one for all or one each), metres; 0 for none."""
    values = np.asarray(distances, np.float64)
    return float((values < limit).mean() * 100) if len(values) else 0.0
