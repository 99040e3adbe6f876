"""Symmetries of solids are found, of shape and of colours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trimesh")

import trimesh

from ffreid.pose.object_set.surface import Surface, diameter
from ffreid.pose.object_set.symmetry_search import find_symmetries

TURN = trimesh.transformations.random_rotation_matrix(np.array([0.3, 0.6, 0.8]))


def cylinder() -> Any:
    return trimesh.creation.cylinder(25, 70).subdivide().subdivide()


def with_post() -> Any:
    post = trimesh.creation.cylinder(10, 60)
    post.apply_translation([25, 18, 20])
    return trimesh.util.concatenate([trimesh.creation.box([80, 60, 40]), post])


def two_faces() -> Any:
    return trimesh.Trimesh([[0, 0, 0], [90, 0, 0], [0, 90, 0], [0, 0, 90]], [[0, 1, 2], [0, 1, 3]])


def labelled(vertices: Any) -> Any:
    """Dark where a label is, twice about z."""
    return np.where(np.cos(2 * np.arctan2(vertices[:, 1], vertices[:, 0])) > 0, 30, 220)


@pytest.mark.parametrize(
    ("mesh", "shade", "discrete", "continuous"),
    [
        (lambda: trimesh.creation.box([80, 60, 40]), None, 3, 0),
        (lambda: trimesh.creation.cylinder(25, 70), None, 1, 1),
        (lambda: trimesh.creation.cone(25, 70), None, 0, 1),
        (with_post, None, 0, 0),
        (cylinder, labelled, 3, 0),
        (two_faces, None, 0, 0),
    ],
    ids=["box", "cylinder", "cone", "box with a post", "labels", "two faces"],
)
def test_symmetries_of_solids_are_found(
    mesh: Callable[[], Any], shade: Callable[[Any], Any] | None, discrete: int, continuous: int
) -> None:
    solid = mesh()
    colours = None
    if shade is not None:
        colours = np.repeat(shade(solid.vertices)[:, None], 3, axis=1).astype(np.uint8)
    away = np.array([0.02, 0.01, 0.05])
    vertices = trimesh.transform_points(solid.vertices, TURN) / 1000 + away
    surface = Surface(vertices=vertices, faces=np.array(solid.faces), colours=colours)
    size = diameter(vertices)
    rotations, axes, middle = find_symmetries(surface, size)
    assert (len(rotations), len(axes)) == (discrete, continuous)
    if discrete == 3 and shade is None:  # every corner of the box comes to lie on another
        for rotation in rotations:
            moved = (vertices - middle) @ rotation.T + middle
            nearest = np.linalg.norm(moved[:, None] - vertices, axis=2).min(axis=1)
            assert nearest.max() < 0.01 * size
    for axis in axes:
        assert abs(axis @ TURN[:3, 2]) > 0.999
