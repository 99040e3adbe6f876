"""Neighbour searches as recorded from the original's nanoflann."""

import numpy as np
import pytest

from tests.golden import arrays, recordings
from tests.pose.data.pyramid_distances import distances, tree_nearest

pytestmark = pytest.mark.golden

SEARCHES = recordings("ffb6d", "knn*.npz")


@pytest.mark.parametrize("prefix", ["", "dup_", "few_"])
@pytest.mark.parametrize("kind", ["points", "pixels"])
@pytest.mark.parametrize("stem", SEARCHES)
def test_neighbours_are_as_recorded(stem: str, kind: str, prefix: str) -> None:
    """For random points, duplicates (any may be returned), and too few points."""
    recorded = arrays("ffb6d", stem)
    support = recorded[f"{prefix}support"]
    expected = {k: v.astype(int) for k, v in recorded.items() if k.startswith(f"{prefix}idx")}
    assert expected
    for indices in expected.values():
        of_itself = prefix and len(indices) == len(support)
        queries = support if of_itself else recorded["query"][: len(indices)]
        ours = tree_nearest(kind, support, queries, indices.shape[1])
        if prefix == "dup_":
            gaps = distances(queries, support, ours), distances(queries, support, indices)
            np.testing.assert_allclose(*gaps, atol=1e-6)
        else:
            np.testing.assert_array_equal(ours, indices)
