"""The neighbour pyramid against 22 plain searches."""

from dataclasses import fields

import numpy as np
import numpy.typing as npt
import pytest

from ffreid.bench.reference_pyramid import reference_pyramid
from ffreid.pose.data.pyramid import Pyramid, build_pyramid
from tests.pose.data.pyramid_distances import pyramid_distances, tree_nearest

Points = npt.NDArray[np.float32]

# Ten recorded points and what the original's search finds among them for 16 neighbours.
TEN = [
    [0.9113082, -0.9691365, -0.17010184],
    [1.1076714, -0.17674972, 1.0241166],
    [-0.4685767, 1.7700244, 0.69929355],
    [0.88915074, -0.7510104, 1.3621081],
    [-0.5217376, 0.01091766, 0.49419796],
    [0.93462807, 1.6219226, -0.9578958],
    [-0.6771148, -0.08046991, 1.5869919],
    [-0.22527218, 0.21402924, -0.6795664],
    [1.6535335, -0.10676937, -0.17631596],
    [0.21333073, 1.806197, -0.39921743],
]
FOUND = {
    0: [0, 8, 1, 3, 7, 4, 6, 5, 9, 2, 0, 0, 0, 0, 0, 0],
    4: [4, 6, 7, 1, 2, 3, 0, 9, 8, 5, 0, 0, 0, 0, 0, 0],
    9: [9, 5, 2, 7, 4, 8, 1, 0, 6, 3, 0, 0, 0, 0, 0, 0],
}


def scene(
    empty: float, *, height: int = 64, width: int = 80, count: int = 1024
) -> tuple[Points, Points]:
    """A cloud and its point map, of which a share `empty` has no depth."""
    rng = np.random.RandomState(3)
    point_map = rng.uniform([-0.4, -0.3, 0.5], [0.4, 0.3, 1.3], (height, width, 3))
    point_map[rng.rand(height, width) < empty] = 0
    points = point_map.astype(np.float32)
    valid = points.reshape(-1, 3)[points.reshape(-1, 3)[:, 2] > 0]
    return valid[rng.permutation(np.resize(np.arange(len(valid)), count))], points


def same_distances(first: Pyramid, second: Pyramid, cloud: Points, point_map: Points) -> None:
    ours = pyramid_distances(first, cloud, point_map)
    expected = pyramid_distances(second, cloud, point_map)
    for name in expected:
        for mine, other in zip(ours[name], expected[name], strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("empty", [0.0, 0.002, 0.4, 0.93])
def test_neighbours_are_as_far_as_in_plain_searches(empty: float, workers: int) -> None:
    cloud, point_map = scene(empty)
    pyramid = build_pyramid(cloud, point_map, workers=workers)
    same_distances(pyramid, reference_pyramid(cloud, point_map), cloud, point_map)


def test_nothing_but_empty_pixels_in_a_grid_is_searched_like_any_other() -> None:
    cloud, point_map = scene(0.0)
    point_map[::2, ::2] = 0
    same_distances(
        build_pyramid(cloud, point_map), reference_pyramid(cloud, point_map), cloud, point_map
    )


def test_points_repeated_many_times_are_searched_like_any_other() -> None:
    cloud, point_map = scene(0.0)
    cloud = np.resize(cloud[:40], cloud.shape)
    same_distances(
        build_pyramid(cloud, point_map), reference_pyramid(cloud, point_map), cloud, point_map
    )


def test_two_threads_give_the_very_same_indices() -> None:
    cloud, point_map = scene(0.3)
    one, two = (build_pyramid(cloud, point_map, workers=n) for n in (1, 2))
    for field in fields(Pyramid):
        for a, b in zip(getattr(one, field.name), getattr(two, field.name), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_grid_of_fewer_pixels_than_neighbours_leaves_zeros() -> None:
    cloud, point_map = scene(0.0, height=16, width=24)
    pyramid = build_pyramid(cloud, point_map)
    # Stride 8 leaves 2 x 3 pixels.
    assert not pyramid.pixels_down[1][:, 6:].any()
    same_distances(pyramid, reference_pyramid(cloud, point_map), cloud, point_map)


@pytest.mark.parametrize("kind", ["points", "pixels"])
def test_too_few_points_give_the_recorded_rows(kind: str) -> None:
    points = np.array(TEN, np.float32)
    found = tree_nearest(kind, points, points, 16)
    assert {row: found[row].tolist() for row in FOUND} == FOUND


def test_shapes_and_types_are_those_of_the_network() -> None:
    cloud, point_map = scene(0.1)
    pyramid = build_pyramid(cloud, point_map, k=16)
    shapes = {f.name: [a.shape for a in getattr(pyramid, f.name)] for f in fields(Pyramid)}
    assert shapes == {
        "neighbours": [(1024, 16), (256, 16), (64, 16), (16, 16)],
        "nearest_kept": [(1024, 1), (256, 1), (64, 1), (16, 1)],
        "pixels_down": [(256, 16), (64, 16), (16, 16), (4, 16)],
        "points_down": [(320, 1), (80, 1), (80, 1), (80, 1)],
        "pixels_up": [(16, 16), (64, 16), (256, 16)],
        "points_up": [(320, 1), (1280, 1), (1280, 1)],
    }
    assert {a.dtype for f in fields(Pyramid) for a in getattr(pyramid, f.name)} == {np.dtype("i4")}
