"""Reference mean shift, one fit at a time, and neighbour pyramid, a tree for each search."""

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ffreid.pose.data.pyramid import LEVELS, STRIDES_DOWN, STRIDES_UP, Indices, Points, Pyramid


def reference_mean_shift(
    points: Tensor, *, bandwidth: float, max_iterations: int = 300
) -> tuple[Tensor, Tensor, int]:
    """Fit one set of points (N, D), N at least 1, through an N x N x D table of differences.

    At most ``max_iterations + 1`` updates are made, as in the original.

    Returns:
        (D,) densest place, (N,) bool points that ended within `bandwidth` of it, number of updates.
    """
    moved, updates = points, 0
    while True:
        distances = (moved[:, None] - moved[None]).norm(dim=2)
        weights = torch.exp(-0.5 * (distances / bandwidth) ** 2)
        means = (weights[:, :, None] * moved[None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)
        largest_move = (means - moved).norm(dim=1).max()
        moved = means
        updates += 1
        if largest_move < 1e-3 * bandwidth or updates > max_iterations:
            break
    near = (moved[:, None] - moved[None]).norm(dim=2) < bandwidth
    densest = int(near.sum(dim=1).argmax())
    return moved[densest], near[densest], updates


def reference_nearest(support: Points, queries: Points, k: int) -> Indices:
    """Return (Q, k) indices of the nearest points in `support`, 0 where there are fewer than k."""
    _, indices = cKDTree(support).query(queries, k=list(range(1, k + 1)))
    return np.where(indices == len(support), 0, indices).astype(np.int32)


def reference_pyramid(cloud: Points, point_map: Points, *, k: int = 16) -> Pyramid:
    """Build the same as `build_pyramid`, with a tree for each search."""
    levels = [cloud[: len(cloud) // 4**i] for i in range(LEVELS + 1)]
    grid = {stride: point_map[::stride, ::stride].reshape(-1, 3) for stride in (2, 4, 8)}
    down = list(zip(levels[1:], STRIDES_DOWN, strict=True))
    up = list(zip(levels[3:0:-1], STRIDES_UP, strict=True))
    return Pyramid(
        neighbours=tuple(reference_nearest(level, level, k) for level in levels[:-1]),
        nearest_kept=tuple(reference_nearest(levels[i + 1], levels[i], 1) for i in range(LEVELS)),
        pixels_down=tuple(reference_nearest(grid[s], points, k) for points, s in down),
        points_down=tuple(reference_nearest(points, grid[s], 1) for points, s in down),
        pixels_up=tuple(reference_nearest(grid[s], points, k) for points, s in up),
        points_up=tuple(reference_nearest(points, grid[s], 1) for points, s in up),
    )
