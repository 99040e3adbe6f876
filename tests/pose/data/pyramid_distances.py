"""Distances of the neighbours in a pyramid."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.pose.data.pyramid import LEVELS, STRIDES_DOWN, STRIDES_UP, Points, _build, _nearest


def search_points(cloud: Points, point_map: Points) -> dict[str, list[tuple[Points, Points]]]:
    """(queries, support) of each search, by field and level."""
    levels = [cloud[: len(cloud) // 4**i] for i in range(LEVELS + 1)]
    grid = {stride: point_map[::stride, ::stride].reshape(-1, 3) for stride in (2, 4, 8)}
    down = list(zip(levels[1:], STRIDES_DOWN, strict=True))
    up = list(zip(levels[3:0:-1], STRIDES_UP, strict=True))
    return {
        "neighbours": [(level, level) for level in levels[:-1]],
        "nearest_kept": [(levels[i], levels[i + 1]) for i in range(LEVELS)],
        "pixels_down": [(points, grid[s]) for points, s in down],
        "points_down": [(grid[s], points) for points, s in down],
        "pixels_up": [(points, grid[s]) for points, s in up],
        "points_up": [(grid[s], points) for points, s in up],
    }


def pyramid_distances(
    pyramid: Any, cloud: Points, point_map: Points
) -> dict[str, tuple[npt.NDArray[np.float64], ...]]:
    """Distances of all neighbours in a pyramid (any object with its fields), float64 metres."""
    return {
        name: tuple(
            distances(queries, support, np.asarray(rows))
            for (queries, support), rows in zip(sets, getattr(pyramid, name), strict=True)
        )
        for name, sets in search_points(cloud, point_map).items()
    }


def distances(queries: Points, support: Points, rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(Q, k) distances of the queries to these rows of `support`, float64."""
    difference = queries[:, None].astype(np.float64) - support[rows]
    lengths: npt.NDArray[np.float64] = np.sqrt((difference**2).sum(axis=2))
    return lengths


def tree_nearest(kind: str, support: Points, queries: Points, k: int) -> npt.NDArray[Any]:
    """(Q, k) rows of `support` from a single search (`kind`: points or pixels)."""
    return _nearest(_build(k, kind, support), queries, k)
