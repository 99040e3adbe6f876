"""BOP's errors of poses: VSD, MSSD and MSPD (Hodaň et al., BOP Challenge 2020, section 2.2).

Poses are (3, 4), lengths millimetres, symmetries (S, 3, 4) with the identity among them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.pose.data.frame import is_rotation

Floats = npt.NDArray[np.float64]

STEP = 0.01
"""Largest step of a point by a continuous symmetry, as a fraction of the half circumference."""
TAUS = np.arange(0.05, 0.51, 0.05)
"""Tolerances of VSD, as fractions of the diameter."""
DELTA = 15.0
"""Tolerance of visibility in VSD, mm."""
_VALUES = 1 << 21


def symmetries(info: Mapping[str, Any]) -> Floats:
    """The symmetries (S, 3, 4) of an entry of ``models_info.json``.

    Raises:
        ValueError: one is no rotation, or moves the middle of the object by a fifth of its size.
    """
    discrete = [np.eye(4)]
    discrete += [np.array(m, float).reshape(4, 4) for m in info.get("symmetries_discrete", ())]
    if not all(is_rotation(m[:3, :3]) and (m[3] == (0, 0, 0, 1)).all() for m in discrete):
        raise ValueError("a matrix is not a rotation and a translation")
    continuous = [np.eye(4)] if not info.get("symmetries_continuous") else []
    for symmetry in info.get("symmetries_continuous", ()):
        axis = np.array(symmetry["axis"], float)
        offset = np.array(symmetry["offset"], float)
        if not 0 < np.linalg.norm(axis) < math.inf:
            raise ValueError(f"the axis {axis.tolist()} has no direction")
        steps = math.ceil(math.pi / STEP)
        for angle in 2 * math.pi * np.arange(steps) / steps:
            turn = np.eye(4)
            turn[:3, :3] = _rotation(axis / np.linalg.norm(axis), angle)
            turn[:3, 3] = offset - turn[:3, :3] @ offset
            continuous.append(turn)
    found = np.stack([(turn @ flip)[:3] for flip in discrete for turn in continuous])
    size = np.array([info.get(f"size_{axis}", math.nan) for axis in "xyz"], float)
    middle = np.array([info.get(f"min_{axis}", math.nan) for axis in "xyz"], float) + size / 2
    moved = np.linalg.norm(found[:, :, :3] @ middle + found[:, :, 3] - middle, axis=1)
    if not np.isfinite(found).all() or (moved > 0.2 * np.linalg.norm(size)).any():
        raise ValueError(f"one moves the middle of the object by {moved.max():.0f} mm")
    return found


def _rotation(axis: Floats, angle: float) -> Floats:
    """Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross)


def canonical_pose(pose: Floats, symmetries: Floats) -> Floats:
    """Of the poses (3, 4) that look the same, the one turned least as seen along the object's ray.

    So equal pictures have equal targets: seen from the camera, an object is turned as one in the
    middle of the image is after the rotation of the camera's axis to the object's ray.
    """
    centre = symmetries[:, :, 3].mean(axis=0)  # which no symmetry moves
    place = pose[:, :3] @ centre + pose[:, 3]
    ray = place / np.linalg.norm(place)
    axis = np.array([-ray[1], ray[0], 0.0])  # z x ray
    sine = np.linalg.norm(axis)
    view = np.eye(3)
    if sine > 1e-9:
        view = _rotation(axis / sine, math.atan2(sine, ray[2]))
    turned = view.T @ pose[:, :3] @ symmetries[:, :, :3]
    best = int(turned.trace(axis1=1, axis2=2).argmax())
    return np.column_stack(
        [pose[:, :3] @ symmetries[best, :, :3], pose[:, :3] @ symmetries[best, :, 3] + pose[:, 3]]
    )


def _move(pose: Floats, points: Floats) -> Floats:
    moved: Floats = points @ np.swapaxes(pose[..., :3], -1, -2) + pose[..., None, :, 3]
    return moved


def _project(camera: Floats, points: Floats) -> Floats:
    image = points @ camera.T
    projected: Floats = image[..., :2] / image[..., 2:]
    return projected


def surface_errors(
    estimate: Floats, true: Floats, vertices: Floats, symmetries: Floats, camera: Floats
) -> tuple[float, float]:
    """MSSD in mm and MSPD in pixels: the largest distance of a vertex (P, 3), of the best symmetry.

    In space and in the image of the `camera` (3, 3).
    """
    placed = _move(estimate, vertices)
    image = _project(camera, placed)
    best = [math.inf, math.inf]
    size = max(1, _VALUES // (3 * len(vertices)))
    for start in range(0, len(symmetries), size):
        points = _move(true, _move(symmetries[start : start + size], vertices))
        for index, gap in enumerate((points - placed, _project(camera, points) - image)):
            best[index] = min(best[index], float((gap**2).sum(axis=-1).max(axis=-1).min()))
    return math.sqrt(best[0]), math.sqrt(best[1])


def visible_surface_discrepancies(
    estimate: Floats,
    true: Floats,
    measured: Floats,
    diameter: float,
    *,
    taus: Sequence[float] | Floats = TAUS,
    delta: float = DELTA,
) -> Floats:
    """VSD for each tau.

    Distance images (H, W) are of both poses and of the sensor, in mm, 0 where there is nothing.
    """
    true_visible = _visible(true, measured, delta)
    visible = _visible(estimate, measured, delta) | (true_visible & (estimate > 0))
    both, union = true_visible & visible, int((true_visible | visible).sum())
    if not union:
        return np.ones(len(taus))
    gaps = np.abs(estimate[both] - true[both]) / diameter
    wrong = (gaps[None] >= np.asarray(taus)[:, None]).sum(axis=1)
    return np.asarray((wrong + union - len(gaps)) / union)


def _visible(rendered: Floats, measured: Floats, delta: float) -> npt.NDArray[np.bool_]:
    return np.asarray((rendered > 0) & ((measured == 0) | (rendered - measured <= delta)))
