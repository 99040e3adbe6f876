"""Nearest neighbours between points and pixels on every level (FFB6D section 3.3, RandLA-Net).

FFB6D needs 22 neighbour searches, but among 8 sets of points only, and 15 of the results contain
the others: the points of a level are the first of the previous level, and a coarse grid is part of
a fine one. Of the 15, four (the nearest point of the next level) can nearly always be read from the
neighbours already found. So 8 trees are built and 11 searches run; where numba is installed, sets
sorted into cells of the view replace the trees (`ffreid.pose.data.cells`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

try:
    from ffreid.pose.data.cells import Cells
except ModuleNotFoundError:  # the extra "fast"
    USE_CELLS = False
else:
    USE_CELLS = True

Points = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]

LEVELS, NEIGHBOURS = 4, 16
# Pixel strides of the grids paired with the points of levels 1 … 4 on the way down, 3 … 1 up.
STRIDES_DOWN = (4, 8, 8, 8)
STRIDES_UP = (4, 2, 2)


@dataclass(frozen=True)
class Pyramid:
    """Neighbour indices of one frame, int32; the fields are those of `Inputs` without B."""

    neighbours: tuple[Indices, ...]
    nearest_kept: tuple[Indices, ...]
    pixels_down: tuple[Indices, ...]
    points_down: tuple[Indices, ...]
    pixels_up: tuple[Indices, ...]
    points_up: tuple[Indices, ...]


def build_pyramid(cloud: Points, point_map: Points, *, k: int = NEIGHBOURS) -> Pyramid:
    """Find all neighbours that FFB6D needs for one frame.

    Args:
        cloud: (N, 3) points in random order; level i is the first N // 4**i of them.
        point_map: (H, W, 3) point of every pixel, (0, 0, 0) where nothing was measured; such
            pixels are searched too, as in the original. H and W are multiples of 8.
        k: neighbours per point. Where fewer exist the remaining entries are 0.

    Returns:
        Indices sorted by distance; among equal distances the order is arbitrary, and not the same
        with numba as without.
    """
    counts = [len(cloud) // 4**level for level in range(LEVELS + 1)]
    grids = {stride: point_map[::stride, ::stride] for stride in (2, 4, 8)}
    supports = {f"pixels{stride}": grid.reshape(-1, 3) for stride, grid in grids.items()}
    supports |= {f"points{level}": cloud[:count] for level, count in enumerate(counts)}
    trees = {name: _build(k, name, points) for name, points in supports.items()}
    results = _search_all(trees, k)
    kept = [
        _nearest_kept(results[f"points{i}", f"points{i}"], trees[f"points{i + 1}"], cloud)
        for i in range(LEVELS)
    ]

    def pixels(level: int, stride: int) -> Indices:
        source = {2: "points1", 4: "points1", 8: "points2"}[stride]
        return results[source, f"pixels{stride}"][: counts[level]]

    def points(level: int, stride: int) -> Indices:
        finest = {1: 2, 2: 2, 3: 4, 4: 8}[level]
        rows = results[f"pixels{finest}", f"points{level}"].reshape(grids[finest].shape[:2])
        step = stride // finest
        return np.ascontiguousarray(rows[::step, ::step]).reshape(-1, 1)

    # The 22 results are slices of the distinct ones.
    down = list(zip(range(1, LEVELS + 1), STRIDES_DOWN, strict=True))
    up = list(zip((3, 2, 1), STRIDES_UP, strict=True))
    return Pyramid(
        neighbours=tuple(results[f"points{i}", f"points{i}"] for i in range(LEVELS)),
        nearest_kept=tuple(kept),
        pixels_down=tuple(pixels(level, stride) for level, stride in down),
        points_down=tuple(points(level, stride) for level, stride in down),
        pixels_up=tuple(pixels(level, stride) for level, stride in up),
        points_up=tuple(points(level, stride) for level, stride in up),
    )


@dataclass(frozen=True)
class _Tree:
    """A set of points and its tree.

    Of the points at the origin (tens of thousands of pixels without depth) only k are in the tree,
    which changes no distance, and only one is queried.

    Attributes:
        points: (P, 3).
        tree: of the points `inside`, `cKDTree` or `Cells`.
        inside: rows of `points` that are in the tree, None for all.
        origin: rows of `points` at the origin, queried once; empty where `inside` is None.
        queries: rows of `points` to query, close ones together; None for all in order.
    """

    points: Points
    tree: Any
    inside: npt.NDArray[np.intp] | None
    origin: npt.NDArray[np.intp]
    queries: npt.NDArray[np.intp] | None


def _build(k: int, name: str, points: Points) -> _Tree:
    x, y, z = points.T
    at_origin = (z == 0) & (x == 0) & (y == 0)
    seen = USE_CELLS and bool((at_origin | (z > 0)).all())
    origin = np.flatnonzero(at_origin)
    inside = None
    if len(origin) > k:
        at_origin[origin[:k]] = False
        inside = np.flatnonzero(~at_origin)
    else:
        origin = origin[:0]
    chosen = points if inside is None else points[inside]
    if seen:
        tree = Cells(chosen)
    elif name.startswith("pixels"):
        # Queried rarely: median splits and tight boxes cost more than they save.
        tree = cKDTree(chosen, leafsize=32, balanced_tree=False, compact_nodes=False)
    else:
        tree = cKDTree(chosen)
    if name.startswith("pixels"):
        return _Tree(points, tree, inside, origin, inside)
    queries = tree.indices if inside is None else inside[tree.indices]
    return _Tree(points, tree, inside, origin, queries)


def _search_all(trees: dict[str, _Tree], k: int) -> dict[tuple[str, str], Indices]:
    """Run the distinct searches, by (set of queries, set searched)."""
    searches = [("pixels2", "points1", 1), ("points0", "points0", k), ("pixels2", "points2", 1)]
    searches += [("points1", "pixels2", k), ("points1", "pixels4", k), ("points1", "points1", k)]
    searches += [("pixels4", "points3", 1), ("points2", "pixels8", k), ("points2", "points2", k)]
    searches += [("pixels8", "points4", 1), ("points3", "points3", k)]
    results = {}
    for source, target, count in searches:
        points, rows = trees[source].points, trees[source].queries
        found = np.empty((len(points), count), np.int32)
        asked = slice(None) if rows is None else rows
        queries = points if rows is None else points.take(rows, axis=0)
        found[asked] = _nearest(trees[target], queries, count)
        if len(origin := trees[source].origin):
            found[origin] = found[origin[0]]
        results[source, target] = found
    return results


def _nearest(tree: _Tree, queries: Points, count: int) -> Indices:
    """(Q, count) rows of the tree's points; 0 where it has too few."""
    results: npt.NDArray[np.intp]
    _, results = tree.tree.query(queries, k=np.arange(1, count + 1))
    missing = results == tree.tree.n if count > tree.tree.n else None
    if missing is not None:
        results[missing] = 0
    if tree.inside is not None:
        results = tree.inside.take(results)
    rows: Indices = results.astype(np.int32, copy=False)
    if missing is not None:
        rows[missing] = 0
    return rows


def _nearest_kept(neighbours: Indices, kept: _Tree, cloud: Points) -> Indices:
    """(P, 1) nearest point of the next level: the first of the neighbours that are kept.

    The next level is the first quarter of this one, so a neighbour is kept if its index is small;
    only a point without kept neighbours needs another search.
    """
    is_kept = neighbours < len(kept.points)
    first = is_kept.argmax(axis=1)
    rows: Indices = neighbours[np.arange(len(neighbours)), first]
    lost = np.flatnonzero(~is_kept.any(axis=1))
    if len(lost):
        rows[lost] = _nearest(kept, cloud[lost], 1)[:, 0]
    return rows[:, None]
