"""Exact nearest neighbours of points seen by a camera, compiled by numba (the extra ``fast``).

Points are sorted into square cells of the view, by x/z and y/z. A query looks only into the cells
that a ball around it may touch: the planes through the camera that touch the ball bound it. The
ball's radius is the distance of some k points, usually the neighbours of the query before.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.pose.compiling import compiled, inlined

POINTS_PER_CELL = 2.0
MOST_CELLS = 2048.0
"""Along one axis, where few points lie far from the others."""
MANY_CELLS = 80
"""A query that would look into more cells first finds nearer points around it."""


class Cells:
    """Points (P, 3), each before the camera or at it, searched as a `scipy.spatial.cKDTree` is.

    Attributes:
        n: number of points.
        indices: rows of the points in the order of the cells, those at the camera last.
    """

    def __init__(self, points: npt.NDArray[np.float32]) -> None:
        self.n = len(points)
        self.indices, *self._sorted = _sort(points)

    def query(self, queries: npt.NDArray[np.float32], k: Sequence[int]) -> tuple[None, Any]:
        """Return None and the (Q, len(k)) nearest rows of the points, `n` where there are fewer.

        Distances are compared in float64; among equal ones the order is arbitrary. Queries are
        fastest in an order in which neighbours follow each other.
        """
        rows = np.full((len(queries), len(k)), self.n, np.int32)
        _search(np.ascontiguousarray(queries), rows, self.indices, *self._sorted)
        return None, rows


@compiled
def _sort(points: Any) -> Any:
    """Sort points into cells.

    Returns:
        Rows of the points in the order of the cells, the points in this order (float64), where
        each cell starts, rows and columns of cells, lowest x/z and y/z, size of a cell.
    """
    count = len(points)
    low_x = low_y = np.inf
    high_x = high_y = -np.inf
    in_front = 0
    for i in range(count):
        z = np.float64(points[i, 2])
        if z > 0:
            in_front += 1
            low_x, high_x = min(low_x, points[i, 0] / z), max(high_x, points[i, 0] / z)
            low_y, high_y = min(low_y, points[i, 1] / z), max(high_y, points[i, 1] / z)
    width, height = max(high_x - low_x, 1e-9), max(high_y - low_y, 1e-9)
    size = math.sqrt(width * height * POINTS_PER_CELL / max(in_front, 1))
    size = max(size, width / MOST_CELLS, height / MOST_CELLS)
    rows = columns = 1
    if in_front:
        rows, columns = int(height / size) + 1, int(width / size) + 1
    cell = np.full(count, rows * columns)
    start = np.zeros(rows * columns + 2, np.int64)
    for i in range(count):
        z = np.float64(points[i, 2])
        if z > 0:
            column = min(int((points[i, 0] / z - low_x) / size), columns - 1)
            cell[i] = min(int((points[i, 1] / z - low_y) / size), rows - 1) * columns + column
        start[cell[i] + 1] += 1
    for i in range(rows * columns + 1):
        start[i + 1] += start[i]
    place = start.copy()
    order = np.empty(count, np.int64)
    arranged = np.empty((count, 3))
    for i in range(count):
        position = place[cell[i]]
        place[cell[i]] += 1
        order[position] = i
        for axis in range(3):
            arranged[position, axis] = points[i, axis]
    return order, arranged, start, rows, columns, low_x, low_y, size


@inlined
def _span(x: float, z: float, squared: float, low: float, size: float, count: int) -> Any:
    """First and last cell along an axis that a ball around (x, z) may touch."""
    beside = z * z - squared
    if not (beside > 0 and z > 0):  # the ball reaches beside the camera
        return 0, count - 1
    root = math.sqrt(squared * (x * x + beside))
    first = ((x * z - root) / beside - low) / size - 1e-6
    last = ((x * z + root) / beside - low) / size + 1e-6
    return int(min(max(first, 0.0), count - 1.0)), int(min(max(last, 0.0), count - 1.0))


@inlined
def _look(points: Any, first: int, last: int, query: Any, distances: Any, found: Any) -> None:
    """Insert the points from `first` to `last` into the sorted lists of the nearest."""
    x, y, z = query
    worst = len(distances) - 1
    for i in range(first, last):
        dx, dy, dz = points[i, 0] - x, points[i, 1] - y, points[i, 2] - z
        squared = dx * dx + dy * dy + dz * dz
        if squared < distances[worst]:
            place = worst
            while place > 0 and distances[place - 1] > squared:
                distances[place], found[place] = distances[place - 1], found[place - 1]
                place -= 1
            distances[place], found[place] = squared, i


@compiled
def _search(
    queries: Any,
    results: Any,
    order: Any,
    points: Any,
    start: Any,
    rows: int,
    columns: int,
    low_x: float,
    low_y: float,
    size: float,
) -> None:
    k = results.shape[1]
    distances, found = np.full(k, np.inf), np.full(k, -1)
    for m in range(len(queries)):
        x, y, z = np.float64(queries[m, 0]), np.float64(queries[m, 1]), np.float64(queries[m, 2])
        query = (x, y, z)
        # The neighbours of the query before bound the distances of this one's.
        bound = np.inf
        if found[k - 1] >= 0:
            bound = 0.0
            for i in found:
                dx, dy, dz = points[i, 0] - x, points[i, 1] - y, points[i, 2] - z
                bound = max(bound, dx * dx + dy * dy + dz * dz)
        left, right = _span(x, z, bound, low_x, size, columns)
        top, bottom = _span(y, z, bound, low_y, size, rows)
        if z > 0 and (right - left + 1) * (bottom - top + 1) > MANY_CELLS:
            distances[:] = np.inf
            column = int(min(max((x / z - low_x) / size, 0.0), columns - 1.0))
            row = int(min(max((y / z - low_y) / size, 0.0), rows - 1.0))
            reach, inside = 0, 0
            while inside < k + k // 2 and reach < max(rows, columns):
                reach += 1
                left, right = max(column - reach, 0), min(column + reach, columns - 1)
                top, bottom = max(row - reach, 0), min(row + reach, rows - 1)
                inside = 0
                for line in range(top, bottom + 1):
                    inside += start[line * columns + right + 1] - start[line * columns + left]
            for line in range(top, bottom + 1):
                first, last = start[line * columns + left], start[line * columns + right + 1]
                _look(points, first, last, query, distances, found)
            bound = min(bound, distances[k - 1])
            left, right = _span(x, z, bound, low_x, size, columns)
            top, bottom = _span(y, z, bound, low_y, size, rows)
        distances[:] = bound * (1 + 1e-9) + 1e-300
        found[:] = -1
        for line in range(top, bottom + 1):
            first, last = start[line * columns + left], start[line * columns + right + 1]
            _look(points, first, last, query, distances, found)
        if x * x + y * y + z * z <= distances[k - 1]:  # points at the camera are in no cell
            _look(points, start[rows * columns], len(points), query, distances, found)
        for j in range(k):
            if found[j] >= 0:
                results[m, j] = order[found[j]]
