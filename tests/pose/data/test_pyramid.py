"""The neighbour pyramid against 22 brute-force searches."""

import numpy as np
import numpy.typing as npt
import pytest

from ffreid.bench.reference_pose import reference_pyramid
from ffreid.pose.data.pyramid import Pyramid, build_pyramid
from tests.pose.data.pyramid_distances import pyramid_distances, tree_nearest

Points = npt.NDArray[np.float32]

# Ten recorded points and the original's result for 16 neighbours among them.
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
NEIGHBOURS = {
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


def checked_pyramid(cloud: Points, point_map: Points) -> Pyramid:
    """The pyramid, with the distances of brute-force searches."""
    pyramid = build_pyramid(cloud, point_map)
    ours = pyramid_distances(pyramid, cloud, point_map)
    expected = pyramid_distances(reference_pyramid(cloud, point_map), cloud, point_map)
    for name, levels in vars(pyramid).items():
        for level, indices in enumerate(levels):
            assert indices.min() >= 0
            np.testing.assert_array_equal(ours[name][level], expected[name][level])
    return pyramid


@pytest.mark.parametrize("empty", [0.0, 0.002, 0.4, 0.93])
def test_neighbours_are_as_near_as_in_brute_force_searches(empty: float) -> None:
    checked_pyramid(*scene(empty))


def test_empty_grids_and_repeated_points_are_accepted() -> None:
    cloud, point_map = scene(0.0)
    checked_pyramid(np.resize(cloud[:40], cloud.shape), point_map)
    point_map[::2, ::2] = 0
    checked_pyramid(cloud, point_map)


def test_missing_neighbours_in_small_grids_are_zero() -> None:
    pyramid = checked_pyramid(*scene(0.0, height=16, width=24))
    assert not pyramid.pixels_down[1][:, 6:].any()  # stride 8 leaves 2 x 3 pixels


@pytest.mark.parametrize("kind", ["points", "pixels"])
def test_too_few_points_give_the_recorded_rows(kind: str) -> None:
    points = np.array(TEN, np.float32)
    result = tree_nearest(kind, points, points, 16)
    assert {row: result[row].tolist() for row in NEIGHBOURS} == NEIGHBOURS


def test_shapes_and_types_are_those_of_the_network() -> None:
    cloud, point_map = scene(0.1)
    pyramid = vars(build_pyramid(cloud, point_map, k=16))
    shapes = {name: [indices.shape for indices in levels] for name, levels in pyramid.items()}
    assert shapes == {
        "neighbours": [(1024, 16), (256, 16), (64, 16), (16, 16)],
        "nearest_kept": [(1024, 1), (256, 1), (64, 1), (16, 1)],
        "pixels_down": [(256, 16), (64, 16), (16, 16), (4, 16)],
        "points_down": [(320, 1), (80, 1), (80, 1), (80, 1)],
        "pixels_up": [(16, 16), (64, 16), (256, 16)],
        "points_up": [(320, 1), (1280, 1), (1280, 1)],
    }
    assert {indices.dtype for levels in pyramid.values() for indices in levels} == {np.dtype("i4")}
