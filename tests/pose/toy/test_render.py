"""Ray casting: exact depth, labels and poses; the depth sensor's noise and holes."""

import numpy as np
import pytest

from ffreid.pose.toy.objects import ToyObject, patchwork, toy_objects, uniform
from ffreid.pose.toy.render import Rendering, Solid, pixel_rays, render, sense_depth
from ffreid.pose.toy.scenes import random_rotation, toy_intrinsics
from ffreid.pose.toy.shapes import Box, Ellipsoid, Floats, Frustum, Shape

HEIGHT, WIDTH = 48, 64
CAMERA = toy_intrinsics(HEIGHT, WIDTH)
ABOVE = np.array([0.0, -1.0, 0.0])
BALL = Ellipsoid((0.05, 0.05, 0.05))


def at(position: tuple[float, float, float], rotation: Floats | None = None) -> Floats:
    return np.column_stack([np.eye(3) if rotation is None else rotation, position])


def solid(shape: Shape, pose: Floats, label: int = 1) -> Solid:
    return Solid(shape, uniform((0.8, 0.4, 0.2)), pose, label)


def image(*solids: Solid) -> Rendering:
    return render(solids, CAMERA, height=HEIGHT, width=WIDTH, light=ABOVE)


def test_a_ball_straight_ahead_is_nearest_by_its_radius() -> None:
    camera = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
    ball = solid(BALL, at((0, 0, 0.8)))
    shown = render([ball], camera, height=HEIGHT, width=WIDTH, light=ABOVE)
    assert shown.depth[24, 32] == pytest.approx(0.75, abs=1e-12)
    assert shown.facing[24, 32] == pytest.approx(1)
    # The outline is the circle where rays touch the ball: tan of asin(0.05 / 0.8).
    touching = 100 * np.tan(np.arcsin(0.05 / 0.8))
    assert shown.labels[24, 32:].sum() == int(touching) + 1


def test_the_nearer_solid_hides_the_farther_whatever_their_order() -> None:
    near, far = solid(BALL, at((0, 0, 0.6)), 1), solid(BALL, at((0.06, 0, 0.9)), 2)
    first, second = image(near, far), image(far, near)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.depth, second.depth)
    assert set(np.unique(first.labels)) == {0, 1, 2}
    assert first.labels[24, 31] == 1


@pytest.mark.parametrize("thing", toy_objects(), ids=lambda thing: thing.name)
def test_labelled_pixels_lie_on_the_surface_under_the_inverse_pose(thing: ToyObject) -> None:
    shape = thing.shape
    pose = at((0.01, -0.02, 0.7), random_rotation(np.random.default_rng(0)))
    shown = image(solid(shape, pose, 3))
    points = (pixel_rays(CAMERA, HEIGHT, WIDTH) * shown.depth[..., None])[shown.labels == 3]
    surface = (points - pose[:, 3]) @ pose[:, :3]
    assert len(surface) > 50
    normals = shape.normals(surface)
    np.testing.assert_allclose(shape.intersect(surface + 0.01 * normals, -normals), 0.01, atol=1e-9)


@pytest.mark.parametrize("position", [(0, 0, 0.5), (0.09, 0.07, 0.6), (-0.2, 0, 0.7)])
def test_the_bounding_rectangle_cuts_nothing_off(position: tuple[float, float, float]) -> None:
    shape = Frustum(0.03, 0.07, 0.05)
    pose = at(position, random_rotation(np.random.default_rng(1)))
    rays = pixel_rays(CAMERA, HEIGHT, WIDTH).reshape(-1, 3)
    met = np.isfinite(shape.intersect(-pose[:, :3].T @ pose[:, 3], rays @ pose[:, :3]))
    np.testing.assert_array_equal(image(solid(shape, pose)).labels.ravel(), met)


def test_a_solid_that_reaches_behind_the_camera_is_drawn() -> None:
    floor = solid(Box((3, 0.01, 3)), at((0, 0.2, 0)))
    shown = image(floor)
    assert not shown.labels[0].any()
    assert shown.labels[-1].all()
    row = (HEIGHT - 1 - CAMERA[1, 2]) / CAMERA[1, 1]
    np.testing.assert_allclose(shown.depth[-1], 0.19 / row)


def test_a_ball_throws_a_shadow_on_the_floor_below_it() -> None:
    floor = solid(Box((1, 0.01, 1)), at((0, 0.1, 1)), 0)
    bare = image(floor)
    shaded = image(floor, solid(Ellipsoid((0.04, 0.01, 0.04)), at((0, 0.03, 0.9))))
    still_floor = (shaded.labels == 0) & (bare.depth > 0)
    darker = bare.rgb.astype(int).sum(-1) - shaded.rgb.astype(int).sum(-1)
    assert darker[still_floor].max() > 60
    assert darker[still_floor].min() >= 0


def test_a_texture_turns_with_its_solid() -> None:
    texture = patchwork(BALL, 0.3, np.random.default_rng(2))
    half_turn = np.diag([-1.0, 1, -1])
    front = image(Solid(BALL, texture, at((0, 0, 0.5)), 1))
    back = image(Solid(BALL, texture, at((0, 0, 0.5), half_turn), 1))
    np.testing.assert_allclose(front.depth, back.depth, atol=1e-12)
    difference = np.abs(front.rgb.astype(int) - back.rgb.astype(int)).sum(-1)
    assert np.median(difference[front.labels == 1]) > 40


def test_measured_depth_is_true_but_for_noise_that_grows_with_distance() -> None:
    depth = np.full((100, 200), 0.5)
    depth[:, 100:] = 2.0
    units = sense_depth(depth, np.ones_like(depth), scale=10000, generator=np.random.default_rng(3))
    assert units.dtype == np.uint16
    near, far = units[:, :90][units[:, :90] > 0] / 1e4, units[:, 110:][units[:, 110:] > 0] / 1e4
    assert near.mean() == pytest.approx(0.5, abs=1e-4)
    assert far.mean() == pytest.approx(2.0, abs=5e-4)
    assert near.std() < 0.001 < far.std()


def test_depth_is_lost_at_edges_and_grazing_angles() -> None:
    depth, facing = np.full((60, 90), 0.7), np.ones((60, 90))
    depth[:, 30:] = 1.0
    facing[:, 60:] = 0.05
    lost = sense_depth(depth, facing, scale=10000, generator=np.random.default_rng(4)) == 0
    assert 0.3 < lost[:, 29:31].mean() < 0.7
    assert lost[:, 61:].mean() > 0.2
    assert lost[:, 33:58].mean() < 0.01
