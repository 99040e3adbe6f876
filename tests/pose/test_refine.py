"""ICP moves poses onto the measured depth, and never keeps a pose with a larger residual."""

import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.pose.metrics import add
from ffreid.pose.refine import refiner
from ffreid.pose.toy.dataset import toy_meshes
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.toy.scenes import toy_frame

MESHES = toy_meshes()


def test_poses_move_onto_the_depth_and_residuals_never_grow() -> None:
    pytest.importorskip("small_gicp")
    align = refiner("icp", MESHES)
    assert align is not None
    generator = np.random.default_rng(0)
    gains, accepted = [], 0
    for number in range(4):
        frame = toy_frame(
            "a", toy_objects(), height=240, width=320, generator=np.random.default_rng(number)
        )
        for class_id, true in zip(frame.class_ids.tolist(), frame.camera_from_object, strict=True):
            start = true.astype(np.float64)
            start[:, 3] += generator.normal(0, 0.006, 3)
            done = align(start, class_id, frame)
            if done is None:
                continue
            assert done.accepted == (done.residual_after < done.residual_before)
            kept = done.camera_from_object
            np.testing.assert_array_equal(done.before, start)
            if not done.accepted:
                np.testing.assert_array_equal(kept, start)
            accepted += done.accepted
            points = MESHES[class_id]
            gains.append(add(points, start, true) - add(points, kept, true))
    assert accepted > 10
    assert np.median(gains) > 0.001


def test_a_pose_without_measured_points_is_left_alone() -> None:
    pytest.importorskip("small_gicp")
    align = refiner("icp", MESHES)
    assert align is not None
    frame = toy_frame("a", toy_objects(), height=96, width=128, generator=np.random.default_rng(0))
    far = np.column_stack([np.eye(3), [0, 0, 9.0]])
    assert align(far, 1, frame) is None


def test_meshes_are_needed() -> None:
    pytest.importorskip("small_gicp")
    with pytest.raises(UserError, match="meshes"):
        refiner("icp", {})
    assert refiner(None, {}) is None
