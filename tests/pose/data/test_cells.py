"""Searches in cells of the view against all distances and against scipy's trees."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ffreid.pose.data import pyramid
from tests.pose.data.pyramid_distances import distances
from tests.pose.data.test_pyramid import scene

cells = pytest.importorskip("ffreid.pose.data.cells", reason="numba is not installed")

Points = npt.NDArray[np.float32]


def points(kind: str, count: int = 600) -> Points:
    rng = np.random.RandomState(0)
    cloud = rng.uniform([-0.6, -0.4, 0.5], [0.6, 0.4, 1.5], (count, 3))
    if kind == "wall":
        cloud[:, 2] = 1
    elif kind == "edge":
        cloud[:, 2] = np.where(cloud[:, 0] > 0.1, 2.5, 0.6)
    elif kind == "outlier":
        cloud[:-1] = cloud[:-1] * 0.01 + (0.2, 0.1, 0.9)
    elif kind == "repeated":
        cloud = np.resize(cloud[:20], cloud.shape)
    elif kind == "one place":
        cloud[:] = cloud[0]
    elif kind == "near":
        cloud[::50] *= 1e-3
    elif kind == "line":
        cloud[:, 0] = 0
    elif kind == "at the camera":
        cloud[::3] = 0
    return cloud.astype(np.float32)


KINDS = ["wall", "edge", "outlier", "repeated", "one place", "near", "line", "at the camera"]


@pytest.mark.parametrize("k", [1, 4, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_cells_find_the_smallest_distances(kind: str, k: int) -> None:
    support = points(kind)
    for queries in (support, points("wall", 200), points("at the camera", 90)):
        _, rows = cells.Cells(support).query(queries, range(k))
        every = distances(queries, support, np.arange(len(support))[None].repeat(len(queries), 0))
        np.testing.assert_array_equal(
            distances(queries, support, rows), np.sort(every, axis=1)[:, :k]
        )
        assert all(len(set(row)) == k for row in rows.tolist())


@pytest.mark.parametrize("count", [0, 1, 5])
def test_missing_neighbours_are_the_number_of_points(count: int) -> None:
    support = points("wall")[:count]
    _, rows = cells.Cells(support).query(points("wall", 30), range(16))
    assert (rows[:, count:] == count).all()
    assert all(sorted(row) == list(range(count)) for row in rows[:, :count].tolist())


@pytest.mark.parametrize("empty", [0.0, 0.4])
def test_both_forms_of_the_pyramid_are_equal(empty: float, monkeypatch: Any) -> None:
    cloud, point_map = scene(empty)
    found = []
    for use in (False, True):
        monkeypatch.setattr(pyramid, "USE_CELLS", use)
        found.append(vars(pyramid.build_pyramid(cloud, point_map)))
    for name, levels in found[0].items():
        for trees, ours in zip(levels, found[1][name], strict=True):
            np.testing.assert_array_equal(ours, trees)


def test_points_behind_the_camera_are_searched_in_trees(monkeypatch: Any) -> None:
    monkeypatch.setattr(pyramid, "USE_CELLS", True)
    behind = points("wall")
    behind[7, 2] = -1
    assert isinstance(pyramid._build(16, "points", points("wall")).tree, cells.Cells)
    assert not isinstance(pyramid._build(16, "points", behind).tree, cells.Cells)
