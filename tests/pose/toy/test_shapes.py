"""Solids: rays meet them where a slow march along the ray says they do."""

import numpy as np
import numpy.typing as npt
import pytest

from ffreid.pose.toy.shapes import (
    Box,
    Ellipsoid,
    Floats,
    Frustum,
    Shape,
    box_corners,
    surface_points,
)

SHAPES = (
    Box((0.03, 0.05, 0.08)),
    Ellipsoid((0.07, 0.05, 0.04)),
    Frustum(0.04, 0.04, 0.06),
    Frustum(0.03, 0.07, 0.03),
    Frustum(0.05, 0.0, 0.06),
)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: repr(shape))


def excess(shape: Shape, points: Floats) -> Floats:
    """Below 0 inside, 0 on the surface, above 0 outside; no distance."""
    x, y, z = np.moveaxis(points, -1, 0)
    outside: Floats
    match shape:
        case Box(half):
            outside = (np.abs(points) - np.array(half)).max(axis=-1)
        case Ellipsoid(half):
            outside = ((points / np.array(half)) ** 2).sum(axis=-1) - 1
        case Frustum(bottom, top, half_height):
            share = (z + half_height) / (2 * half_height)
            side = np.hypot(x, y) - (bottom + (top - bottom) * share)
            outside = np.maximum(side, np.abs(z) - half_height)
    return outside


def random_rays(count: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    origins = generator.normal(size=(count, 3))
    origins *= 0.3 / np.linalg.norm(origins, axis=1, keepdims=True)
    return origins, generator.uniform(-0.07, 0.07, (count, 3)) - origins


@shapes
def test_rays_enter_where_a_march_along_them_first_gets_inside(shape: Shape) -> None:
    origins, directions = random_rays(150, np.random.default_rng(0))
    steps = np.linspace(0, 2, 4001)
    inside = excess(shape, origins[:, None] + steps[:, None] * directions[:, None]) <= 0
    marched = np.where(inside.any(axis=1), steps[inside.argmax(axis=1)], np.inf)
    entered = shape.intersect(origins, directions)
    both = np.isfinite(marched) & np.isfinite(entered)
    assert both.sum() > 30
    assert (~np.isfinite(entered)).sum() > 10
    np.testing.assert_allclose(entered[both], marched[both], atol=6e-4)
    # A march may step over a corner that a ray just cuts, but it never finds what is not there.
    assert np.isfinite(entered[np.isfinite(marched)]).all()
    assert (np.isfinite(entered) & ~np.isfinite(marched)).sum() <= 3


@shapes
def test_surface_points_lie_on_the_surface_and_reach_every_side(shape: Shape) -> None:
    points = surface_points(shape, 3000, np.random.default_rng(1))
    assert points.shape == (3000, 3)
    np.testing.assert_allclose(excess(shape, points), 0, atol=1e-9)
    np.testing.assert_allclose(points.max(axis=0), shape.half_extents, rtol=0.05)
    np.testing.assert_allclose(points.min(axis=0), -shape.half_extents, rtol=0.05)


def test_surface_points_are_spread_by_area() -> None:
    box = Box((0.03, 0.05, 0.08))
    points = surface_points(box, 20000, np.random.default_rng(2))
    on_z_faces = (np.abs(points[:, 2]) > 0.08 - 1e-9).mean()
    areas = np.array([0.05 * 0.08, 0.03 * 0.08, 0.03 * 0.05])
    assert on_z_faces == pytest.approx(areas[2] / areas.sum(), abs=0.01)


@shapes
def test_normals_are_unit_and_point_straight_out(shape: Shape) -> None:
    points = surface_points(shape, 500, np.random.default_rng(3))
    normals = shape.normals(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-9)
    assert np.median(np.sign(excess(shape, points + 1e-5 * normals))) == 1
    back = shape.intersect(points + 0.01 * normals, -normals)
    # Every solid is convex: whoever steps out along the normal and turns round comes back to it.
    np.testing.assert_allclose(back, 0.01, atol=1e-7)


@shapes
def test_reach_is_the_farthest_surface_point_along_a_direction(shape: Shape) -> None:
    points = surface_points(shape, 8000, np.random.default_rng(4))
    directions = np.random.default_rng(5).normal(size=(10, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    reached: npt.NDArray[np.float64] = np.array([shape.support(each) for each in directions])
    np.testing.assert_allclose((points @ directions.T).max(axis=0), reached, rtol=0.04)
    assert ((points @ directions.T).max(axis=0) <= reached + 1e-9).all()


def test_corners_run_through_x_then_y_then_z() -> None:
    corners = box_corners((1, 2, 3))
    np.testing.assert_array_equal(corners[0], (-1, -2, -3))
    np.testing.assert_array_equal(corners[1], (-1, -2, 3))
    np.testing.assert_array_equal(corners[2], (-1, 2, -3))
    np.testing.assert_array_equal(corners[4], (1, -2, -3))
