"""Drawings of poses."""

import numpy as np
import numpy.typing as npt
import pytest

from ffreid.engine.colours import class_colour
from ffreid.pose.draw import Pose, draw_poses
from ffreid.pose.toy.scenes import toy_intrinsics
from ffreid.pose.toy.shapes import Box, box_corners, surface_points

RgbImage = npt.NDArray[np.uint8]
BOX = surface_points(Box((0.05, 0.03, 0.04)), 300, np.random.default_rng(0))
CUBE = surface_points(Box((0.03, 0.03, 0.03)), 300, np.random.default_rng(1))
POINTS = {1: BOX, 2: CUBE}
GREY = np.full((96, 128, 3), 90, np.uint8)


def pose_at(x: float, y: float, z: float) -> npt.NDArray[np.float64]:
    return np.column_stack([np.eye(3), [x, y, z]])


def draw(predicted: list[Pose], true: list[Pose] | None = None, rgb: RgbImage = GREY) -> RgbImage:
    camera = toy_intrinsics(*rgb.shape[:2])
    return draw_poses(rgb, camera, points=POINTS, predicted=predicted, true=true or [])


def scene(image: RgbImage) -> RgbImage:
    """The image below its legend."""
    return image[-480:]


def test_only_small_images_are_enlarged() -> None:
    assert scene(draw([])).shape == (480, 640, 3)
    assert draw([], rgb=np.zeros((480, 640, 3), np.uint8)).shape[1] == 640
    assert draw([], rgb=np.zeros((90, 300, 3), np.uint8)).shape[1] == 900


def test_true_and_predicted_poses_are_side_by_side() -> None:
    image = draw([(1, pose_at(0, 0, 0.6))], [(1, pose_at(0.05, 0, 0.6))])
    assert scene(image).shape == (480, 1280, 3)
    left, right = scene(image)[:, :640], scene(image)[:, 640:]
    assert (left != 90).any()
    assert (left != right).any()
    assert (right > 170).all(axis=-1).sum() > 50
    assert not (left > 170).all(axis=-1).any()


@pytest.mark.parametrize("factor", [1, 5])
def test_boxes_are_where_the_camera_projects_them(factor: int) -> None:
    rgb = np.zeros((480 // factor, 640 // factor, 3), np.uint8)
    pose = pose_at(0.1, -0.05, 0.8)
    changed = np.argwhere(scene(draw([(2, pose)], rgb=rgb)).any(axis=-1))
    low, high = CUBE.min(axis=0), CUBE.max(axis=0)
    corners = box_corners((high - low) / 2) + (high + low) / 2
    projected = (corners + pose[:, 3]) @ toy_intrinsics(480, 640).T
    # The centre of an enlarged pixel is (factor - 1) / 2 further on.
    pixels = projected[:, :2] / projected[:, 2:] + (factor - 1) / 2
    np.testing.assert_allclose(changed.min(axis=0), pixels.min(axis=0)[::-1], atol=3)
    np.testing.assert_allclose(changed.max(axis=0), pixels.max(axis=0)[::-1], atol=3)


@pytest.mark.parametrize(
    "pose",
    [
        pose_at(0, 0, -0.5),
        pose_at(0, 0, -0.041),
        pose_at(9, 0, 0.6),
        pose_at(0, -9, 0.6),
        pose_at(np.nan, 0, 1),
    ],
    ids=["behind", "just behind", "right of it", "above it", "NaN"],
)
def test_objects_out_of_view_are_not_drawn(pose: npt.NDArray[np.float64]) -> None:
    assert (scene(draw([(1, pose)])) == 90).all()


@pytest.mark.parametrize("z", [0.02, 0.06, 0.3])
@pytest.mark.parametrize("x", [-0.08, 0.0, 0.08])
def test_objects_across_the_border_or_the_camera_plane_are_drawn_in_part(
    x: float, z: float
) -> None:
    image = scene(draw([(1, pose_at(x, 0.02, z))]))
    assert image.shape == (480, 640, 3)
    assert x != 0 or (image != 90).any()


def test_a_long_legend_wraps_and_has_each_objects_colour() -> None:
    points = dict.fromkeys(range(1, 22), BOX)
    image = draw_poses(
        GREY,
        toy_intrinsics(96, 128),
        points=points,
        predicted=[(class_id, pose_at(0, 0, 0.6)) for class_id in points],
        names=dict.fromkeys(points, "021_bleach_cleanser"),
    )
    legend = image[:-480]
    assert legend.shape[0] > 60
    assert not (draw([(1, pose_at(0, 0, 0.6))])[:-480] == class_colour(2)).all(axis=-1).any()
    for class_id in points:
        assert (legend == class_colour(class_id)).all(axis=-1).sum() >= 100
    assert (legend[:, -4:] == 32).all()


def test_invisible_characters_of_names_are_drawn_as_codes() -> None:
    first, second = (
        draw_poses(
            GREY,
            toy_intrinsics(96, 128),
            points=POINTS,
            predicted=[(1, pose_at(0, 0, 0.6))],
            names=names,
        )
        for names in ({1: "cup\x1b[2J"}, {1: r"cup\x1b[2J"})
    )
    np.testing.assert_array_equal(first, second)


def test_captions_are_written_inside_the_image_at_their_own_objects() -> None:
    poses: list[Pose] = [
        (1, pose_at(-0.05, 0, 0.6)),
        (3, pose_at(0, 0, 1)),
        (2, pose_at(0.2, -0.2, 0.6)),
    ]
    plain = scene(draw(poses))
    camera = toy_intrinsics(*GREY.shape[:2])
    words = ["one 0.91", "without points", "two 0.10"]
    image = scene(draw_poses(GREY, camera, points=POINTS, predicted=poses, captions=words))
    changed = (image != plain).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert changed[:, :320].sum() > 100  # above the first object
    assert changed[:40, 400:].sum() > 100  # the second is cut off at the top right
    assert rows.min() >= 0
    assert columns.max() < 640
    assert changed.mean() < 0.03
