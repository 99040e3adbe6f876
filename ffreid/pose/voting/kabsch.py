"""The rigid motion that fits one set of points to another (Kabsch 1976; Arun et al. 1987)."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def best_fit_transform(source: Floats, target: Floats) -> npt.NDArray[np.float64]:
    """Find the rotation and translation with the least squared distance ``R source + t - target``.

    Never a reflection; points in a plane or on a line get one of their equally good rotations.

    Args:
        source: (..., P, 3) finite points, P at least 1.
        target: (..., P, 3) finite points, row by row the partners of `source`.

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
