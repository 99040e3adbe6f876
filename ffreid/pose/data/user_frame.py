"""A frame that somebody hands over as arrays: checked, and named where it is wrong."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError
from ffreid.pose.data.frame import Frame


def frame_from_arrays(
    rgb: npt.ArrayLike, depth: npt.ArrayLike, intrinsics: npt.ArrayLike, depth_scale: float
) -> Frame:
    """Give a frame without labels and poses.

    Args:
        rgb: (H, W, 3) uint8.
        depth: (H, W) numbers; 0, NaN or infinity where nothing was measured.
        intrinsics: (3, 3) camera matrix, pixels.
        depth_scale: units a metre.

    Raises:
        UserError: one of them is otherwise.
    """
    colours, measured = _array("rgb", rgb), _array("depth", depth)
    if colours.ndim != 3 or colours.shape[2] != 3 or colours.dtype != np.uint8:
        raise UserError(
            f"rgb is {_kind(colours)}", "give (H, W, 3) uint8, 0 … 255, in the order R, G, B"
        )
    if measured.ndim != 2 or measured.dtype.kind not in "iuf":
        raise UserError(f"depth is {_kind(measured)}", "give (H, W), whole or floating numbers")
    if measured.shape != colours.shape[:2]:
        raise UserError(
            f"rgb is {_kind(colours)}, depth {_kind(measured)}",
            "give depth of the same height and width, registered to the colours",
        )
    number = isinstance(depth_scale, int | float | np.number) and depth_scale is not True
    if not number or not 0 < depth_scale < math.inf:
        raise UserError(f"depth_scale is {depth_scale}", "give units a metre, e.g. 1000 for mm")
    known = np.nan_to_num(measured.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if known.size and known.min() < 0:
        raise UserError(
            f"depth holds {known.min():g}", "give distances ahead, 0 where nothing was measured"
        )
    return Frame(
        name="the frame",
        rgb=np.ascontiguousarray(colours),
        depth=known,
        depth_scale=float(depth_scale),
        labels=np.zeros(known.shape, np.int32),
        intrinsics=_camera(intrinsics),
    )


def check_size(frame: Frame, downscale: int) -> None:
    """Refuse a frame that, `downscale` times smaller, does not fit the network.

    Raises:
        UserError: saying what to cut it to.
    """
    height, width = frame.depth.shape
    if (
        height < 8 * downscale
        or width < 8 * downscale
        or height // downscale % 8
        or width // downscale % 8
    ):
        step = 8 * downscale
        fitting = f"({max(height // step, 1) * step}, {max(width // step, 1) * step})"
        by = f" with DATA.SHRINK {downscale}" * (downscale > 1)
        raise UserError(
            f"rgb and depth are {height} x {width} pixels, no multiples of {step}{by}",
            f"cut or pad both at the bottom and the right, e.g. to {fitting}: the intrinsics stay",
        )


def _camera(intrinsics: npt.ArrayLike) -> npt.NDArray[np.float64]:
    matrix = _array("intrinsics", intrinsics)
    if matrix.shape != (3, 3) or matrix.dtype.kind not in "iuf":
        raise UserError(
            f"intrinsics is {_kind(matrix)}",
            "give the (3, 3) camera matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], pixels",
        )
    plain = np.isfinite(matrix).all() and min(matrix[0, 0], matrix[1, 1]) > 0
    if not plain or (matrix[2] != (0, 0, 1)).any():  # transposed, it has the centre there
        raise UserError(
            f"intrinsics are {matrix.tolist()}",
            "give [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with fx and fy above 0, pixels",
        )
    return matrix.astype(np.float64)


def _array(name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU
        raise UserError(
            f"{name} is no array ({type(value).__name__})", "give a numpy array"
        ) from error


def _kind(array: npt.NDArray[Any]) -> str:
    return f"{array.shape} {array.dtype}"
