"""Least-squares rigid transform between two sets of points (Kabsch 1976; Arun et al. 1987)."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def best_fit_transform(source: Floats, target: Floats) -> npt.NDArray[np.float64]:
    """Minimise the squared distances ``R source + t - target`` of (..., P, 3) points.

    Never a reflection; for points in a plane or on a line one of the equally good rotations.

    Returns:
        (..., 3, 4) float64 ``[R | t]``.
    """
    source, target = source.astype(np.float64), target.astype(np.float64)
    source_centre, target_centre = source.mean(axis=-2), target.mean(axis=-2)
    covariance = np.swapaxes(source - source_centre[..., None, :], -1, -2) @ (
        target - target_centre[..., None, :]
    )
    left, _, right = np.linalg.svd(covariance)
    mirrored = np.linalg.det(left @ right) < 0
    right[mirrored, 2] *= -1
    rotation = np.swapaxes(left @ right, -1, -2)
    translation = target_centre - (rotation @ source_centre[..., None])[..., 0]
    return np.concatenate([rotation, translation[..., None]], axis=-1)
