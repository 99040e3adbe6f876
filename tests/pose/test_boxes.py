"""Distances to the nearest point by blocks, against scipy's tree."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ffreid.pose import scoring
from ffreid.pose.metrics import adds
from tests.pose.test_metrics import PREDICTED, TRUE

boxes = pytest.importorskip("ffreid.pose.boxes", reason="numba is not installed")


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 256, 257, 3000])
@pytest.mark.parametrize("moved", [0.0, 0.005, 0.3])
def test_distances_are_those_of_a_tree_bit_for_bit(count: int, moved: float) -> None:
    rng = np.random.RandomState(count)
    points = rng.uniform(-0.1, 0.1, (count, 3)).astype(np.float32)
    tree = boxes.Boxes(points)
    for queries in (points + moved, rng.uniform(-0.2, 0.2, (40, 3)), np.zeros((0, 3))):
        expected = cKDTree(points).query(queries)[0] if len(queries) else np.zeros(0)
        np.testing.assert_array_equal(tree.query(queries)[0], expected)


def test_equal_points_and_planes_are_searched() -> None:
    points = np.resize([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]], (100, 3))
    assert boxes.Boxes(points).query(np.array([[0.1, 0.0, 0.2]]))[0] == 0.2


def test_both_forms_score_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.RandomState(0).uniform(-0.1, 0.1, (500, 3)).astype(np.float32)
    errors = []
    for use in (False, True):
        monkeypatch.setattr(scoring, "USE_BOXES", use)
        tree = scoring.mesh_trees({1: points})[1]
        assert isinstance(tree, boxes.Boxes if use else cKDTree)
        errors.append(adds(points, PREDICTED, TRUE, tree=tree))
    assert errors[0] == errors[1]
