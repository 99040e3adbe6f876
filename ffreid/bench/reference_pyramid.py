"""Reference neighbour pyramid: 22 trees and 22 searches, as in the original."""

import numpy as np
from scipy.spatial import cKDTree

from ffreid.pose.data.pyramid import (
    LEVELS,
    STRIDES_DOWN,
    STRIDES_UP,
    Indices,
    Points,
    Pyramid,
)


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
