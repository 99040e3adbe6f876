"""Symmetries, and images of meshes without a GPU."""

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ffreid.pose.bop.errors import canonical_pose, symmetries
from ffreid.pose.bop.rasterizer import render_depth, to_distance

trimesh = pytest.importorskip("trimesh")

FLIPS = [np.diag(d).astype(float).tolist() for d in ([1, -1, -1, 1], [-1, 1, -1, 1])]
INFOS: dict[str, dict[str, Any]] = {
    "none": {},
    "box": {"symmetries_discrete": FLIPS},
    "cup": {"symmetries_continuous": [{"axis": [0, 0, 1], "offset": [5, 0, 0]}]},
    "tin": {
        "symmetries_discrete": FLIPS[:1],
        "symmetries_continuous": [{"axis": [0, 0, 1], "offset": [0, 0, 0]}],
    },
}


@pytest.mark.parametrize(("name", "count"), [("none", 1), ("box", 3), ("cup", 315), ("tin", 630)])
def test_symmetries_are_rigid_and_have_the_identity(name: str, count: int) -> None:
    found = symmetries(INFOS[name])
    assert found.shape == (count, 3, 4)
    np.testing.assert_allclose(found[0], np.eye(3, 4), atol=1e-12)
    products = found[:, :, :3] @ found[:, :, :3].swapaxes(1, 2)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-9)
    if name == "cup":  # points of the axis stay where they are
        axis = found[:, :, :3] @ [5.0, 0, 7] + found[:, :, 3]
        np.testing.assert_allclose(axis, np.broadcast_to([5.0, 0, 7], axis.shape), atol=1e-9)


@pytest.mark.parametrize("name", list(INFOS))
def test_poses_that_look_the_same_have_one_canonical_pose(name: str) -> None:
    group = symmetries(INFOS[name])
    if name == "box":  # both flips together are the third symmetry of a box
        both = np.eye(3, 4)[None] * [[[-1.0], [-1], [1]]]
        group = np.concatenate([group, both])
    rng = np.random.default_rng(0)
    for rotation in Rotation.random(20, random_state=1).as_matrix():
        pose = np.column_stack([rotation, rng.uniform([-200, -200, 400], [200, 200, 900])])
        expected = canonical_pose(pose, group)
        other = group[rng.integers(len(group))]
        equal = np.column_stack([rotation @ other[:, :3], rotation @ other[:, 3] + pose[:, 3]])
        # Rotations about an axis may differ by one step where two are equally good.
        step = 0.0 if name in ("none", "box") else 2 * np.pi / 315
        found = canonical_pose(equal, group)
        np.testing.assert_allclose(found[:, :3], expected[:, :3], atol=step + 1e-6)
        np.testing.assert_allclose(found[:, 3], expected[:, 3], atol=5 * step + 1e-6)


def test_a_canonical_pose_depends_on_the_view_along_the_ray() -> None:
    group = symmetries({"symmetries_continuous": [{"axis": [0, 0, 1], "offset": [0, 0, 0]}]})
    start = np.column_stack([Rotation.from_euler("x", 100, degrees=True).as_matrix(), [0, 0, 500]])
    for angle in (-20, 10, 30):
        # The camera turned towards the object: what it sees is the same.
        turn = Rotation.from_euler("y", angle, degrees=True).as_matrix()
        moved = turn @ canonical_pose(start, group)
        np.testing.assert_allclose(canonical_pose(turn @ start, group), moved, atol=1e-6)


def test_a_sphere_is_rendered_at_its_distance() -> None:
    camera = np.array([[200.0, 0, 80.5], [0, 200, 60.5], [0, 0, 1]])
    ball = trimesh.creation.icosphere(4, 100)
    depth = render_depth(ball.vertices + np.array([0, 0, 500.0]), ball.faces, camera, (120, 160))
    # Pixel (60, 80) is sampled at the image's middle (80.5, 60.5).
    assert depth[60, 80] == pytest.approx(400, abs=0.5)
    y, x = np.nonzero(depth)
    # The outline of a ball of radius r at distance d has the radius f r / sqrt(d² - r²).
    area = np.pi * (200 * 100) ** 2 / (500**2 - 100**2)
    assert len(x) == pytest.approx(area, rel=0.01)
    rays = np.stack([(x + 0.5 - 80.5) / 200, (y + 0.5 - 60.5) / 200, np.ones(len(x))], axis=1)
    points = rays * depth[y, x, None] - [0, 0, 500]
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 100, atol=0.5)
    distance = to_distance(depth, camera - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    np.testing.assert_allclose(
        distance[y, x], np.linalg.norm(rays * depth[y, x, None], axis=1), rtol=1e-9
    )


def test_faces_behind_the_camera_or_beside_the_image_are_left_out() -> None:
    camera = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
    triangle = np.array([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
    for shift in ([0, 0, -5.0], [900, 0, 5], [0, -900, 5]):
        assert not render_depth(
            triangle + np.array(shift), np.array([[0, 1, 2]]), camera, (48, 64)
        ).any()
