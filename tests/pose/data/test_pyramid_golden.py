"""Neighbour searches as recorded from the original's nanoflann."""

import numpy as np
import pytest

from tests.golden import arrays, recordings
from tests.pose.data.pyramid_distances import distances, tree_nearest

pytestmark = pytest.mark.golden

SEARCHES = recordings("ffb6d", "knn*.npz")


@pytest.mark.parametrize("kind", ["points", "pixels"])
@pytest.mark.parametrize("stem", SEARCHES)
def test_random_points_have_the_recorded_neighbours(stem: str, kind: str) -> None:
    recorded = arrays("ffb6d", stem)
    found = {k: v for k, v in recorded.items() if k.startswith("idx")}
    assert found
    for indices in found.values():
        mine = tree_nearest(kind, recorded["support"], recorded["query"], indices.shape[1])
        np.testing.assert_array_equal(mine, indices)


@pytest.mark.parametrize("kind", ["points", "pixels"])
@pytest.mark.parametrize("stem", SEARCHES)
def test_duplicates_have_neighbours_at_the_recorded_distances(stem: str, kind: str) -> None:
    recorded = arrays("ffb6d", stem)
    support = recorded["dup_support"]
    found = {k: v.astype(int) for k, v in recorded.items() if k.startswith("dup_idx")}
    assert found
    for indices in found.values():
        mine = tree_nearest(kind, support, support, indices.shape[1])
        expected = distances(support, support, indices)
        np.testing.assert_allclose(distances(support, support, mine), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["points", "pixels"])
@pytest.mark.parametrize("stem", SEARCHES)
def test_too_few_points_leave_the_recorded_zeros(stem: str, kind: str) -> None:
    recorded = arrays("ffb6d", stem)
    support = recorded["few_support"]
    found = {k: v for k, v in recorded.items() if k.startswith("few_idx")}
    assert found
    for indices in found.values():
        queries = support if len(indices) == len(support) else recorded["query"][: len(indices)]
        mine = tree_nearest(kind, support, queries, indices.shape[1])
        np.testing.assert_array_equal(mine, indices)
