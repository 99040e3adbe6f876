"""The visible share of an object, against frames whose share is known."""

import numpy as np
import pytest

from ffreid.pose.data.batch import GroundTruth
from ffreid.pose.visibility import visible_shares

SIZE = 96, 128
INTRINSICS = np.array([[100.0, 0, 64], [0, 100, 48], [0, 0, 1]])


def ball_frame(x: float) -> GroundTruth:
    """A ball at `x` metres, 1 m from the camera."""
    pose = np.column_stack([np.eye(3), [x, 0, 1]]).astype(np.float32)[None]
    ids = np.array([3], np.int32)
    keypoints = np.zeros((1, 8, 3), np.float32)
    return GroundTruth(0, "ball", ids, pose, keypoints, keypoints[:, 0], INTRINSICS)


@pytest.mark.parametrize(
    ("x", "hidden", "every"), [(0.0, 0.0, 1), (0.0, 0.5, 1), (0.0, 0.5, 3), (0.6, 0.0, 1)]
)
def test_the_share_is_that_of_the_silhouette_within_the_image(
    x: float, hidden: float, every: int
) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2000, 3))
    points *= 0.15 / np.linalg.norm(points, axis=1, keepdims=True)
    row, column = np.mgrid[: SIZE[0], : SIZE[1]]
    # The outline of a ball of radius r at distance d has the radius r / sqrt(d² - r²).
    on_ball = (column - 64 - 100 * x) ** 2 + (row - 48) ** 2 < (100 * 0.15) ** 2 / (1 - 0.15**2)
    seen = on_ball & (column - 64 - 100 * x >= 30 * (hidden - 0.5))
    choose = np.arange(0, SIZE[0] * SIZE[1], every)
    labels = np.where(seen.ravel()[choose], 3, 0)
    repeated = np.concatenate([choose, choose[:50]]), np.concatenate([labels, labels[:50]])
    (share,) = visible_shares(ball_frame(x), {3: points}, repeated[1], repeated[0], SIZE)
    assert share == pytest.approx(1 - hidden, abs=0.1)


def test_an_object_outside_the_image_is_not_seen() -> None:
    points = np.random.default_rng(0).normal(size=(100, 3)) * 0.01
    choose = np.arange(SIZE[0] * SIZE[1])
    assert visible_shares(ball_frame(5.0), {3: points}, choose * 0, choose, SIZE) == (0.0,)
