"""Why labelled points are not where the pose puts the mesh: likely mistakes, tried out."""

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

from ffreid.engine.findings import Kind
from ffreid.pose.data.checks import (
    Fit,
    Floats,
    fit_distance,
    transpose_rotations,
    usual_distance,
)

UNITS = (1000.0, 100.0, 10.0, 0.1, 0.01, 0.001)
SENSORS = (*UNITS, 5.0, 4.0, 2.0, 0.5, 0.25, 0.2)
"""Ratios of the units of depth images."""
NEAREST = 0.05
"""Metres: objects are not nearer; with the camera inside of an object much would fit."""
SCALES = (0.5, 2.0, 1.5, 1 / 1.5, 3.0, 1 / 3)
"""Ratios of image sizes."""
MISPLACED = Kind(
    "poses",
    "the mesh is not where the pose says",
    "check that pose, mesh and keypoints are in one object frame, that labels, depth and colour "
    "are of one camera, and the intrinsics",
)
TRANSPOSED = Kind("poses", "transposed rotations", "store rotations row by row")
INVERTED = Kind("poses", "inverted poses", "store the pose of the object in the camera's frame")
OPENGL = Kind(
    "poses",
    "poses in OpenGL's axes",
    "negate the second and third row of R and t: x points right, y down, z forward",
)
DEPTH_UNIT = (
    "factor_depth per metre in YCB-Video's layout, millimetres in LineMOD's (or, with "
    "DATA.INTRINSICS meta, its depth_scale)"
)
"""In which unit depth is stored."""


def depth_unit(factor: float) -> Kind:
    """Depth that is right when multiplied by `factor`."""
    amount = f"multiply it by {factor:.4g}" if factor > 1 else f"divide it by {1 / factor:.4g}"
    return Kind("cameras", "depth in another unit", f"{amount}: it is stored in {DEPTH_UNIT}")


def diagnose(fit: Fit, tree: cKDTree, gap: float, intrinsics: Floats) -> tuple[Kind, float]:
    """The mistake without which the points fit best, and their distance then in metres.

    `MISPLACED` and the distance as it is where none of them explains it.
    """
    tried = [
        (kind, fit_distance(tree, points, poses), usual_distance(gap, points))
        for kind, points, poses in _changes(fit, intrinsics)
    ]
    kind, distance, limit = min(tried, key=lambda item: item[1])
    explains = distance < min(limit, fit.distance / 2)
    return (kind, distance) if explains else (MISPLACED, fit.distance)


def _changes(fit: Fit, intrinsics: Floats) -> Iterator[tuple[Kind, Floats, Floats]]:
    """Each kind of mistake with points (P, 3) and poses (M, 3, 4) as they are without it."""
    points, poses = fit.points, fit.poses
    rotations, translations = poses[:, :, :3], poses[:, :, 3:]
    for factor in SENSORS:
        yield depth_unit(factor), points * factor, poses
    for factor in UNITS:
        if abs(float(np.median(translations[:, 2]))) * factor < NEAREST:
            continue
        amount = f"multiply t by {factor:g}" if factor > 1 else f"divide t by {1 / factor:g}"
        unit = f"{amount}: it is metres in meta.mat, millimetres in gt.yml"
        moved = np.concatenate([rotations, translations * factor], axis=2)
        yield Kind("poses", "poses in another unit", unit), points, moved
    yield TRANSPOSED, points, transpose_rotations(poses)
    turned = rotations.transpose(0, 2, 1)
    yield INVERTED, points, np.concatenate([turned, -turned @ translations], axis=2)
    yield OPENGL, points, poses * np.array([[1], [-1], [-1]])
    (fx, _, cx), (_, fy, cy), _ = intrinsics.astype(np.float64)
    for scale in SCALES:
        x = (points[:, 0] + cx * (1 - scale) / fx * points[:, 2]) / scale
        y = (points[:, 1] + cy * (1 - scale) / fy * points[:, 2]) / scale
        yield resolution(scale), np.stack([x, y, points[:, 2]], axis=1), poses


def resolution(scale: float) -> Kind:
    """Intrinsics that are right when multiplied by `scale`."""
    amount = f"multiply fx, fy, cx, cy by {scale:.3g}"
    return Kind(
        "cameras",
        "intrinsics of another resolution",
        f"{amount}, or resize the images to those the camera was calibrated with",
    )
