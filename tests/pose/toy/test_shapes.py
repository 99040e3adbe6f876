"""Solids against an implicit function of their surface."""

import numpy as np
import pytest

from ffreid.pose.toy.shapes import (
    Box,
    Ellipsoid,
    Floats,
    Frustum,
    Shape,
    Union,
    surface_points,
)

SHAPES = (
    Box((0.03, 0.05, 0.08)),
    Ellipsoid((0.07, 0.05, 0.04)),
    Frustum(0.04, 0.04, 0.06),
    Frustum(0.03, 0.07, 0.03),
    Frustum(0.05, 0.0, 0.06),
    Union.centred(
        (Box((0.04, 0.03, 0.02)), (0, 0, 0)),
        (Ellipsoid((0.03, 0.02, 0.03)), (0.05, 0, 0.03)),
        (Frustum(0.02, 0.012, 0.02), (-0.02, 0.008, 0.03)),
    ),
)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=repr)


def excess(shape: Shape, points: Floats) -> Floats:
    """Below 0 inside, 0 on the surface, above 0 outside; not a distance."""
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
        case Union(parts):
            each = [excess(part.solid, points - np.array(part.centre)) for part in parts]
            outside = np.min(each, axis=0)
    return outside


@shapes
def test_rays_enter_where_a_march_along_them_first_gets_inside(shape: Shape) -> None:
    generator = np.random.default_rng(0)
    origins = generator.normal(size=(150, 3))
    origins *= 0.3 / np.linalg.norm(origins, axis=1, keepdims=True)
    directions = generator.uniform(-0.07, 0.07, (150, 3)) - origins
    steps = np.linspace(0, 2, 4001)
    inside = excess(shape, origins[:, None] + steps[:, None] * directions[:, None]) <= 0
    marched = np.where(inside.any(axis=1), steps[inside.argmax(axis=1)], np.inf)
    entered = shape.intersect(origins, directions)
    both = np.isfinite(marched) & np.isfinite(entered)
    assert both.sum() > 30
    assert (~np.isfinite(entered)).sum() > 10
    entries = origins[both] + entered[both, None] * directions[both]
    np.testing.assert_allclose(excess(shape, entries), 0, atol=1e-9)
    # A march may step over a corner.
    assert (entered[both] <= marched[both]).all()
    assert (marched[both] - entered[both] < 6e-4).mean() > 0.95
    assert np.isfinite(entered[np.isfinite(marched)]).all()
    assert (np.isfinite(entered) & ~np.isfinite(marched)).sum() <= 3


@shapes
def test_surface_points_and_their_normals(shape: Shape) -> None:
    points = surface_points(shape, 3000, np.random.default_rng(1))
    normals = shape.normals(points)
    assert points.shape == (3000, 3)
    np.testing.assert_allclose(excess(shape, points), 0, atol=1e-9)
    np.testing.assert_allclose(points.max(axis=0), shape.half_extents, rtol=0.05)
    np.testing.assert_allclose(points.min(axis=0), -shape.half_extents, rtol=0.05)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-9)
    assert np.median(np.sign(excess(shape, points + 1e-5 * normals))) == 1
    np.testing.assert_allclose(shape.intersect(points + 0.01 * normals, -normals), 0.01, atol=1e-7)
