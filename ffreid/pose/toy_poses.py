"""Poses for made-up scenes: random rotations, and a camera that looks at a table."""

import numpy as np

from ffreid.pose.shapes import Floats


def table_camera(aim: Floats, generator: np.random.Generator) -> Floats:
    """Draw a camera 0.7 … 1.1 m from a table's centre, 20 … 65 degrees above it.

    Args:
        aim: (3,) direction in which the camera sees the table's centre, camera frame.
        generator: where the camera comes from.

    Returns:
        (3, 4) camera_from_table, metres; the table's z points up and a wall may stand at +y.
    """
    return _turned_to(aim) @ _over_table(generator)


def random_rotation(generator: np.random.Generator) -> Floats:
    """(3, 3) rotation, uniform over all."""
    w, x, y, z = (q := generator.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def compose_poses(a_from_b: Floats, b_from_c: Floats) -> Floats:
    """(3, 4) a_from_c."""
    pose: Floats = a_from_b[:, :3] @ b_from_c
    pose[:, 3] += a_from_b[:, 3]
    return pose


def _over_table(generator: np.random.Generator) -> Floats:
    """(3, 4) camera_from_table; the table's z points up, its origin is where the camera looks."""
    azimuth = np.deg2rad(generator.uniform(-35, 35))
    elevation = np.deg2rad(generator.uniform(20, 65))
    roll = np.deg2rad(generator.uniform(-8, 8))
    back = np.array([np.sin(azimuth), -np.cos(azimuth), np.tan(elevation)])
    forward = -back / np.linalg.norm(back)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    rows = np.stack([right, np.cross(forward, right), forward])
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    target = np.array([0, 0, 0.06])
    rotation = turn @ rows
    offset = np.array([0, 0, generator.uniform(0.7, 1.1)]) - rotation @ target
    return np.column_stack([rotation, offset])


def _turned_to(aim: Floats) -> Floats:
    """(3, 3) rotation that takes the z axis to the direction `aim`."""
    forward = aim / np.linalg.norm(aim)
    right = np.cross([0, 1, 0], forward)
    right /= np.linalg.norm(right)
    return np.column_stack([right, np.cross(forward, right), forward])
