"""One RGB-D frame with its labels and poses, as a reader returns it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError


@dataclass(frozen=True)
class Frame:
    """One frame of any dataset, before sampling and neighbour search.

    Attributes:
        name: the frame in errors, results and image files, e.g. ``data/0048/000001``.
        rgb: (H, W, 3) uint8, RGB.
        depth: (H, W) float32 in the sensor's units (`depth_scale` of them are a metre),
            0 where nothing was measured; hole filling needs these units for bit equality.
        depth_scale: units per metre: 10000 for YCB-Video, 1000 for LineMOD.
        labels: (H, W) int32, class id of each pixel, 0 is background.
        intrinsics: (3, 3) camera matrix, pixels.
        class_ids: (M,) int32 of the objects in the frame, in the file's order.
        camera_from_object: (M, 3, 4) float32 poses, metres.
        synthetic: rendered (or pasted) rather than photographed.
    """

    name: str
    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    depth_scale: float
    labels: npt.NDArray[np.int32]
    intrinsics: npt.NDArray[np.floating]
    class_ids: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    camera_from_object: npt.NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((0, 3, 4), np.float32)
    )
    synthetic: bool = False


def check_same_size(images: dict[Path, npt.NDArray[Any]]) -> None:
    """Check that the images of a frame have one height and width."""
    sizes = {path: image.shape[:2] for path, image in images.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{path} {h} x {w}" for path, (h, w) in sizes.items())
        raise UserError(
            f"the images of one frame differ in size: {listed}",
            "colour, depth and labels must be registered to each other",
        )


def check_poses(path: Path, poses: npt.NDArray[np.floating[Any]]) -> None:
    """Check that poses are finite."""
    if not np.isfinite(poses).all():
        raise UserError(
            f"{path}: a pose contains NaN or infinity",
            "repair the file or remove the frame from the list",
        )
