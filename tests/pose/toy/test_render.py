"""Ray casting: exact depth, labels and poses; the depth sensor's noise and holes."""

import numpy as np
import pytest

from ffreid.pose.toy.objects import ToyObject, toy_objects, uniform
from ffreid.pose.toy.render import Rendering, Solid, pixel_rays, render, sense_depth
from ffreid.pose.toy.scenes import random_rotation, toy_intrinsics
from ffreid.pose.toy.shapes import Box, Ellipsoid, Floats, Frustum, Shape

HEIGHT, WIDTH = 48, 64
CAMERA = toy_intrinsics(HEIGHT, WIDTH)
BALL = Ellipsoid((0.05, 0.05, 0.05))


def at(position: tuple[float, float, float], rotation: Floats | None = None) -> Floats:
    return np.column_stack([np.eye(3) if rotation is None else rotation, position])


def solid(shape: Shape, pose: Floats, label: int = 1) -> Solid:
    return Solid(shape, uniform((0.8, 0.4, 0.2)), pose, label)


def image(*solids: Solid, camera: Floats = CAMERA) -> Rendering:
    return render(solids, camera, height=HEIGHT, width=WIDTH, light=np.array([0.0, -1.0, 0.0]))


def test_a_ball_in_front_of_the_camera_has_exact_depth_and_outline() -> None:
    camera = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
    rendered = image(solid(BALL, at((0, 0, 0.8))), camera=camera)
    assert rendered.depth[24, 32] == pytest.approx(0.75, abs=1e-12)
    assert rendered.facing[24, 32] == pytest.approx(1)
    # The outline is the circle where rays touch the ball: tan of asin(0.05 / 0.8).
    touching = 100 * np.tan(np.arcsin(0.05 / 0.8))
    assert rendered.labels[24, 32:].sum() == int(touching) + 1


def test_the_nearer_solid_hides_the_farther_in_any_order() -> None:
    near, far = solid(BALL, at((0, 0, 0.6)), 1), solid(BALL, at((0.06, 0, 0.9)), 2)
    first, second = image(near, far), image(far, near)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.depth, second.depth)
    assert set(np.unique(first.labels)) == {0, 1, 2}
    assert first.labels[24, 31] == 1


@pytest.mark.parametrize("item", toy_objects(), ids=lambda item: item.name)
def test_only_symmetric_objects_look_the_same_turned_about_z(item: ToyObject) -> None:
    tilt = np.array([[1.0, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    turned = (tilt, tilt @ np.diag([-1.0, -1, 1]))
    images = [image(Solid(item.shape, item.texture, at((0, 0, 0.5), r), 1)) for r in turned]
    difference = np.abs(images[0].rgb.astype(int) - images[1].rgb).sum(-1).mean()
    assert difference < 1 if item.symmetric else difference > 5


@pytest.mark.parametrize("position", [(0, 0, 0.5), (0.09, 0.07, 0.6), (-0.2, 0, 0.7)])
def test_the_bounding_rectangle_contains_the_solid(position: tuple[float, float, float]) -> None:
    shape = Frustum(0.03, 0.07, 0.05)
    pose = at(position, random_rotation(np.random.default_rng(1)))
    rays = pixel_rays(CAMERA, HEIGHT, WIDTH).reshape(-1, 3)
    hit = np.isfinite(shape.intersect(-pose[:, :3].T @ pose[:, 3], rays @ pose[:, :3]))
    np.testing.assert_array_equal(image(solid(shape, pose)).labels.ravel(), hit)


def test_a_solid_that_extends_behind_the_camera_is_drawn() -> None:
    rendered = image(solid(Box((3, 0.01, 3)), at((0, 0.2, 0))))
    assert not rendered.labels[0].any()
    assert rendered.labels[-1].all()
    row = (HEIGHT - 1 - CAMERA[1, 2]) / CAMERA[1, 1]
    np.testing.assert_allclose(rendered.depth[-1], 0.19 / row)


def test_measured_depth_has_noise_that_grows_with_distance() -> None:
    depth = np.full((100, 200), 0.5)
    depth[:, 100:] = 2.0
    units = sense_depth(depth, np.ones_like(depth), scale=10000, generator=np.random.default_rng(3))
    near, far = units[:, :90][units[:, :90] > 0] / 1e4, units[:, 110:][units[:, 110:] > 0] / 1e4
    assert near.mean() == pytest.approx(0.5, abs=1e-4)
    assert far.mean() == pytest.approx(2.0, abs=5e-4)
    assert near.std() < 0.001 < far.std()


def test_depth_is_missing_at_edges_and_grazing_angles() -> None:
    depth, facing = np.full((60, 90), 0.7), np.ones((60, 90))
    depth[:, 30:] = 1.0
    facing[:, 60:] = 0.05
    holes = sense_depth(depth, facing, scale=10000, generator=np.random.default_rng(4)) == 0
    assert 0.3 < holes[:, 29:31].mean() < 0.7
    assert holes[:, 61:].mean() > 0.2
    assert holes[:, 33:58].mean() < 0.01
