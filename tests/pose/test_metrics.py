"""Distances and areas against loops and values recorded from the original."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ffreid.pose.metrics import accuracy_below, add, adds, auc, keypoint_error

Matrix = npt.NDArray[np.float64]

GENERATOR = np.random.default_rng(0)
POINTS = GENERATOR.normal(size=(60, 3)) * 0.05
TRUE = np.column_stack([Rotation.from_rotvec([0.1, 0.5, -0.3]).as_matrix(), [0.1, 0.0, 0.9]])
PREDICTED = np.column_stack([Rotation.from_rotvec([0.3, 0.4, -0.2]).as_matrix(), [0.11, 0.0, 0.92]])


def _moved(pose: Matrix) -> list[Matrix]:
    return [pose[:, :3] @ point + pose[:, 3] for point in POINTS]


def test_add_and_adds_are_mean_distances_to_partners_and_to_the_nearest() -> None:
    predicted, true = _moved(PREDICTED), _moved(TRUE)
    partners = [np.linalg.norm(p - t) for p, t in zip(predicted, true, strict=True)]
    assert add(POINTS, PREDICTED, TRUE) == pytest.approx(np.mean(partners))
    nearest = [min(np.linalg.norm(p - t) for p in predicted) for t in true]
    assert adds(POINTS, PREDICTED, TRUE) == pytest.approx(np.mean(nearest))


@pytest.mark.parametrize("stretch", [1.0, 1.1])
def test_adds_with_a_tree_is_the_same_also_for_poses_that_are_not_rigid(stretch: float) -> None:
    predicted = PREDICTED * [stretch, 1, 1, 1]
    with_tree = adds(POINTS, predicted, TRUE, tree=cKDTree(POINTS))
    assert with_tree == pytest.approx(adds(POINTS, predicted, TRUE), abs=1e-7)


def test_the_error_of_the_zero_pose_is_the_distance_from_the_camera() -> None:
    zeros = np.zeros((3, 4))
    expected = np.mean([np.linalg.norm(point) for point in _moved(TRUE)])
    assert add(POINTS, zeros, TRUE) == pytest.approx(expected)
    assert adds(POINTS, zeros, TRUE, tree=cKDTree(POINTS)) == pytest.approx(expected)


def test_keypoint_error_is_the_mean_distance() -> None:
    assert keypoint_error(np.zeros((2, 3)), np.array([[3.0, 4, 0], [0, 0, 1]])) == 3.0


@pytest.mark.parametrize(
    ("distances", "area", "area_to_5cm"),
    [
        ([], 0.0, 0.0),
        ([0.2], 0.0, 0.0),
        # The right end counts: one error of 3 cm is full marks.
        ([0.03], 100.0, 100.0),
        ([0.0] * 7, 100.0, 100.0),
        ([0.01, 0.01, 0.02, 0.02, 0.02, 0.05, 0.2], 74.28571507334709, 74.28571507334709),
        ([0.1, 0.05, 0.1000001], 50.00000149011612, 33.33333432674408),
        ([0.09, 0.01, 0.5, 0.04], 62.5, 47.5),
    ],
)
def test_areas_are_those_the_original_gives(
    distances: list[float], area: float, area_to_5cm: float
) -> None:
    assert auc(distances) == pytest.approx(area, abs=1e-10)
    assert auc(distances, 0.05) == pytest.approx(area_to_5cm, abs=1e-10)


def test_accuracy_counts_what_is_strictly_below() -> None:
    assert accuracy_below([0.01, 0.02, 0.03, 0.04], 0.02) == 25.0
    assert accuracy_below([0.01, 0.02], np.array([0.02, 0.01])) == 50.0
    assert accuracy_below([], 0.02) == 0.0
