"""Farthest points as recorded from the original."""

import re

import numpy as np
import pytest

from ffreid.pose.keypoints import farthest_points
from tests.golden import arrays, recordings

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("stem", recordings("ffb6d", "fps*.npz"))
def test_farthest_points_are_as_recorded(stem: str) -> None:
    recorded = arrays("ffb6d", stem)
    keys = [
        m for key in recorded if (m := re.fullmatch(r"(init_center|random_start)(\d+)_k(\d+)", key))
    ]
    assert {match[1] for match in keys} == {"init_center", "random_start"}
    for match in keys:
        points, expected = recorded[f"pts{match[2]}"], recorded[match[0]]
        centred = match[1] == "init_center"
        start = None if centred else int(expected[0])
        chosen = farthest_points(points, int(match[3]), start=start, init_centre=centred)
        np.testing.assert_array_equal(chosen, expected, err_msg=match[0])
