"""One RGB-D frame with its labels and poses, from a reader or from arrays of the Python API."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError
from ffreid.files import File

NEAREST, FARTHEST = 0.15, 30.0
"""Metres between which the median depth of an image lies."""
FOCAL = (0.2, 20.0)
"""Focal lengths as shares of the longer side: fields of view of 136 to 3 degrees."""
CENTRE = (0.28, 0.75)
"""Principal points as shares of width and height. Half a matrix gives 0.25, the matrix of an image
twice as large 1, and 720 rows padded to 1280 0.281."""
SKEW = 1.0
"""Pixels of skew, at most: points are computed without it."""


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
        stored_intrinsics: (3, 3) camera matrix in the frame's files, None where they have none;
            `intrinsics` are others where the dataset's fixed camera is in use.
        instances: (H, W) int32, 1 + row in `class_ids` of the object of each pixel, 0 is
            background; None where no class occurs twice.
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
    stored_intrinsics: npt.NDArray[np.floating] | None = None
    instances: npt.NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        """Refuse intrinsics with skew."""
        skew = float(max(abs(self.intrinsics[0, 1]), abs(self.intrinsics[1, 0])))
        if skew > SKEW:
            raise UserError(
                f"{self.name}: the intrinsics have a skew of {skew:g} pixels",
                "pass images of a camera without skew, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]",
            )


def repeated_classes(class_ids: npt.ArrayLike) -> list[int]:
    """Classes of which a frame has several objects, which the network cannot tell apart."""
    ids, counts = np.unique(np.asarray(class_ids, np.int32), return_counts=True)
    return [int(class_id) for class_id in ids[counts > 1]]


def check_same_size(images: Mapping[Any, npt.NDArray[Any]]) -> None:
    """Check that the images of a frame, by file, have one height and width."""
    sizes = {path: image.shape[:2] for path, image in images.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{path} {h} x {w}" for path, (h, w) in sizes.items())
        raise UserError(
            f"the images of one frame differ in size: {listed}",
            "colour, depth and labels must be registered to each other",
        )


def check_unique(where: Path | str, names: Sequence[str]) -> None:
    """Refuse a list in which a frame occurs twice: it would count twice."""
    if len(set(names)) < len(names):
        name = Counter(names).most_common(1)[0][0]
        raise UserError(f"{where}: {name!r} is listed twice", "list each frame once")


def is_rotation(matrix: npt.NDArray[np.floating[Any]]) -> bool:
    """Whether a (3, 3) matrix is a rotation, within the rounding of files."""
    return bool(_are_rotations(matrix[None])[0])


def _are_rotations(matrices: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    errors = np.abs(matrices @ np.swapaxes(matrices, 1, 2) - np.eye(3)).max(axis=(1, 2))
    return np.asarray((errors <= 1e-2) & (np.linalg.det(matrices) > 0))


def check_poses(path: File, poses: npt.NDArray[np.floating[Any]]) -> None:
    """Check that poses (M, 3, 4) are finite and rotate."""
    if not np.isfinite(poses).all():
        raise UserError(
            f"{path}: a pose contains NaN or infinity",
            "repair the file or remove the frame from the list",
        )
    if len(wrong := poses[~_are_rotations(poses[:, :, :3]), :, :3]):
        raise UserError(
            f"{path}: R is not a rotation (determinant {np.linalg.det(wrong[0]):.3g})",
            "store rotations that neither scale nor mirror",
        )


def camera_matrix(value: Any) -> npt.NDArray[np.float64] | None:
    """A (3, 3) camera matrix in pixels; None for anything else, e.g. a transposed one.

    A transposed matrix has the principal point in its last row.
    """
    try:
        matrix = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        return None
    is_camera = min(matrix[0, 0], matrix[1, 1]) > 0 and (matrix[2] == (0, 0, 1)).all()
    return matrix if is_camera else None


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
    camera = camera_matrix(matrix) if matrix.dtype.kind in "iuf" else None
    if camera is None:
        raise UserError(
            f"intrinsics is {_describe(matrix)}: {matrix.tolist()}",
            "pass the (3, 3) camera matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels with "
            "fx and fy above 0",
        )
    frame = Frame(
        name="the frame",
        rgb=np.ascontiguousarray(colours),
        depth=known,
        depth_scale=float(depth_scale),
        labels=np.zeros(known.shape, np.int32),
        intrinsics=camera,
    )
    _check_plausible(frame)
    return frame


def _check_plausible(frame: Frame) -> None:
    """Refuse depth and intrinsics that no depth camera gives an image of this size."""
    measured = frame.depth[frame.depth > 0]
    middle = float(np.median(measured)) / frame.depth_scale if measured.size else NEAREST
    if not NEAREST <= middle <= FARTHEST:
        raise UserError(
            f"the median of the measured depth is {middle:.3g} m: depth_scale is "
            f"{frame.depth_scale:g} units per metre",
            "pass depth_scale 1000 for millimetres, 1 for metres, 10000 for YCB-Video",
        )
    height, width = frame.depth.shape
    wrong = implausible_intrinsics(frame.intrinsics, height, width)
    if wrong:
        raise UserError(
            f"intrinsics {frame.intrinsics.tolist()} are not of an image of {height} x {width} "
            f"pixels: {', '.join(wrong)}",
            "pass the camera matrix of this image size, in pixels; pad a part cut out of an image "
            "with zeros to the whole image",
        )


def implausible_intrinsics(
    intrinsics: npt.NDArray[np.floating], height: int, width: int
) -> list[str]:
    """The numbers, by name, that are not of an image of this size, see FOCAL and CENTRE."""
    (fx, _, cx), (_, fy, cy), _ = intrinsics.tolist()
    focal = {"fx": fx / max(height, width), "fy": fy / max(height, width)}
    centre = {"cx": cx / width, "cy": cy / height}
    wrong = [name for name, ratio in focal.items() if not FOCAL[0] <= ratio <= FOCAL[1]]
    return wrong + [n for n, ratio in centre.items() if not CENTRE[0] <= ratio <= CENTRE[1]]


def _as_array(name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU
        raise UserError(
            f"{name} is not an array ({type(value).__name__})", "pass a numpy array"
        ) from error


def _describe(array: npt.NDArray[Any]) -> str:
    return f"{array.shape} {array.dtype}"
