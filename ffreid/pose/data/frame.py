"""One RGB-D frame with its labels and poses, from a reader or from arrays of the Python API."""

import math
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


def frame_from_arrays(
    rgb: npt.ArrayLike, depth: npt.ArrayLike, intrinsics: npt.ArrayLike, depth_scale: float
) -> Frame:
    """Make a frame without labels and poses; arguments as for `PoseModel.predict`."""
    colours, measured = _as_array("rgb", rgb), _as_array("depth", depth)
    matrix = _as_array("intrinsics", intrinsics)
    if colours.ndim != 3 or colours.shape[2] != 3 or colours.dtype != np.uint8:
        raise UserError(f"rgb is {_describe(colours)}", "pass (H, W, 3) uint8 RGB, 0 … 255")
    if measured.ndim != 2 or measured.dtype.kind not in "iuf":
        raise UserError(f"depth is {_describe(measured)}", "pass (H, W) integers or floats")
    if measured.shape != colours.shape[:2]:
        problem = f"rgb is {_describe(colours)}, depth is {_describe(measured)}"
        raise UserError(problem, "pass depth registered to rgb, of the same height and width")
    is_number = isinstance(depth_scale, int | float | np.number) and depth_scale is not True
    if not is_number or not 0 < depth_scale < math.inf:
        raise UserError(f"depth_scale is {depth_scale}", "pass units per metre, e.g. 1000 for mm")
    known = np.nan_to_num(measured.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if known.size and known.min() < 0:
        raise UserError(
            f"depth has a negative value: {known.min():g}", "use 0 where nothing was measured"
        )
    # A transposed matrix has the principal point in its last row.
    if (
        matrix.shape != (3, 3)
        or matrix.dtype.kind not in "iuf"
        or not np.isfinite(matrix).all()
        or min(matrix[0, 0], matrix[1, 1]) <= 0
        or (matrix[2] != (0, 0, 1)).any()
    ):
        raise UserError(
            f"intrinsics is {_describe(matrix)}: {matrix.tolist()}",
            "pass the (3, 3) camera matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels with "
            "fx and fy above 0",
        )
    return Frame(
        name="the frame",
        rgb=np.ascontiguousarray(colours),
        depth=known,
        depth_scale=float(depth_scale),
        labels=np.zeros(known.shape, np.int32),
        intrinsics=matrix.astype(np.float64),
    )


def check_size(frame: Frame, downscale: int) -> None:
    """Check that the network takes the frame, `downscale` times smaller."""
    height, width = frame.depth.shape
    step = 8 * downscale
    if min(height, width) < step or height // downscale % 8 or width // downscale % 8:
        fitting = f"({max(height // step, 1) * step}, {max(width // step, 1) * step})"
        reason = f" with DATA.SHRINK {downscale}" * (downscale > 1)
        raise UserError(
            f"rgb and depth are {height} x {width} pixels, not multiples of {step}{reason}",
            f"crop or pad both at the bottom and the right, e.g. to {fitting}; "
            "the intrinsics stay the same",
        )


def _as_array(name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU
        raise UserError(
            f"{name} is not an array ({type(value).__name__})", "pass a numpy array"
        ) from error


def _describe(array: npt.NDArray[Any]) -> str:
    return f"{array.shape} {array.dtype}"
