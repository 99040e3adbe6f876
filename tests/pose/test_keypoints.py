"""Farthest points of points with obvious distances."""

from typing import Any

import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.pose.keypoints import farthest_points

LINE = np.array([[0.0, 0, 0], [1, 0, 0], [4, 0, 0], [10, 0, 0]])


def test_each_point_is_the_farthest_from_those_before() -> None:
    points = np.random.RandomState(0).rand(60, 3)
    chosen = farthest_points(points, 8, start=5).tolist()
    for step in range(1, 8):
        gaps = np.linalg.norm(points[:, None] - points[chosen[:step]], axis=2).min(axis=1)
        assert chosen[step] == gaps.argmax()


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({"start": 1}, [1, 3, 4]),
        ({}, [0, 3, 4]),  # the first is the farthest from the box's centre, which is the last
        ({"init_centre": True}, [0, 3, 1]),
    ],
)
def test_the_first_point_and_the_centre(options: dict[str, Any], chosen: list[int]) -> None:
    points = np.vstack([LINE, [[5.0, 0, 0]]])
    assert farthest_points(points, 3, **options).tolist() == chosen


@pytest.mark.parametrize("count", [0, 5])
def test_more_points_than_available_are_an_error(count: int) -> None:
    with pytest.raises(UserError, match="keypoints of 4 points"):
        farthest_points(LINE, count)
