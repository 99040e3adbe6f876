"""Exact distances to the nearest of an object's points, compiled by numba (the extra ``fast``).

The points, in the order of a k-d tree, are cut into blocks of 16, and the blocks into groups of 16.
A query looks first into the block that was nearest to the query before, then only into blocks whose
box is nearer than the nearest point so far.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ffreid.pose.compiling import compiled, inlined

BLOCK = 16
"""One or two vectors of the processor."""
FAR_AWAY = 1e150
"""Where blocks that fill a group are, metres."""

Floats = npt.NDArray[np.float64]


class Boxes:
    """Points (P, 3), P at least 1, searched for the nearest as a `cKDTree` is."""

    def __init__(self, points: npt.NDArray[np.floating[Any]]) -> None:
        self.order = cKDTree(points, leafsize=BLOCK).indices.astype(np.int64)
        arranged = np.asarray(points, np.float64)[self.order]
        arranged = np.pad(arranged, [(0, -len(arranged) % BLOCK), (0, 0)], mode="edge")
        blocks = arranged.reshape(-1, BLOCK, 3)
        boxes = np.concatenate([blocks.min(axis=1), blocks.max(axis=1)], axis=1)
        starts = np.arange(0, len(boxes), BLOCK)
        lowest = np.minimum.reduceat(boxes[:, :3], starts)
        highest = np.maximum.reduceat(boxes[:, 3:], starts)
        filled = [(0, -len(boxes) % BLOCK), (0, 0)]
        boxes = np.pad(boxes, filled, constant_values=FAR_AWAY).reshape(-1, BLOCK, 6)
        # Coordinates first, so that those of a block or group follow each other.
        self.blocks = np.ascontiguousarray(blocks.transpose(0, 2, 1))
        self.boxes = np.ascontiguousarray(boxes.transpose(0, 2, 1))
        self.groups = np.ascontiguousarray(np.concatenate([lowest, highest], axis=1).T)

    def query(self, queries: Any, *, workers: int = 1) -> tuple[Floats, None]:
        """Return the distances (Q,) of the queries (Q, 3) to their nearest points, and None.

        One thread, whatever `workers` are: threads may query at the same time.
        As many queries as points are visited in the points' order: neighbours follow each other.
        """
        count = len(queries)
        order = self.order if count == len(self.order) else np.arange(count)
        found = np.empty(count)
        precise = np.ascontiguousarray(queries, np.float64)
        _search(precise, order, found, self.blocks, self.boxes, self.groups)
        return found, None


@inlined
def _outside(box: Any, i: int, x: Any, y: Any, z: Any) -> Any:
    """Squared distance to the i-th box, whose lowest and highest coordinates are six rows."""
    dx = max(max(box[0, i] - x, x - box[3, i]), 0.0)
    dy = max(max(box[1, i] - y, y - box[4, i]), 0.0)
    dz = max(max(box[2, i] - z, z - box[5, i]), 0.0)
    return dx * dx + dy * dy + dz * dz


@inlined
def _nearest(block: Any, x: Any, y: Any, z: Any) -> Any:
    """Squared distance to the nearest of a block's points."""
    nearest = np.inf
    for i in range(BLOCK):
        dx, dy, dz = block[0, i] - x, block[1, i] - y, block[2, i] - z
        nearest = min(nearest, dx * dx + dy * dy + dz * dz)
    return nearest


@compiled
def _search(queries: Any, order: Any, found: Any, blocks: Any, boxes: Any, groups: Any) -> None:
    to_groups, to_boxes = np.empty(groups.shape[1]), np.empty(BLOCK)
    nearest = 0
    for row in order:
        x, y, z = queries[row, 0], queries[row, 1], queries[row, 2]
        seen = nearest
        best = _nearest(blocks[seen], x, y, z)
        for group in range(len(to_groups)):
            to_groups[group] = _outside(groups, group, x, y, z)
        for group in range(len(to_groups)):
            if to_groups[group] < best:
                for i in range(BLOCK):
                    to_boxes[i] = _outside(boxes[group], i, x, y, z)
                for i in range(BLOCK):
                    block = group * BLOCK + i
                    if to_boxes[i] < best and block != seen:
                        squared = _nearest(blocks[block], x, y, z)
                        if squared < best:
                            best, nearest = squared, block
        found[row] = np.sqrt(best)
