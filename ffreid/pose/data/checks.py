"""What a frame's files must have in common, with errors that name them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError


def check_same_size(pictures: dict[Path, npt.NDArray[Any]]) -> None:
    """Check that a frame's pictures have one height and width.

    Raises:
        UserError: they differ.
    """
    sizes = {path: picture.shape[:2] for path, picture in pictures.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{path} {h} x {w}" for path, (h, w) in sizes.items())
        raise UserError(
            f"pictures of one frame differ in size: {listed}",
            "colour, depth and labels must be registered: one height and width",
        )


def check_poses(path: Path, poses: npt.NDArray[np.floating[Any]]) -> None:
    """Check that poses hold numbers only.

    Raises:
        UserError: one is NaN or infinite.
    """
    if not np.isfinite(poses).all():
        raise UserError(
            f"{path}: a pose holds NaN or infinity", "repair the file or drop the frame"
        )


def extent(points: npt.NDArray[np.floating[Any]]) -> float:
    """Longest side of the box around the points (..., 3), in their unit."""
    flat_points = points.reshape(-1, 3)
    return float(np.ptp(flat_points, axis=0).max())
