"""Reading a frame of one's own: colour, depth of any format, intrinsics and units."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import (
    MAX_PIXELS,
    SMALLER,
    read_image,
    read_single_channel,
    reason_of,
)
from ffreid.errors import UserError, flat
from ffreid.files import check_file
from ffreid.pose.data.frame import Frame, implausible_intrinsics
from ffreid.pose.own.cameras import Camera, CameraFile, given
from ffreid.pose.own.find import FramePaths

NEAREST, FARTHEST = 0.05, 20.0
"""Metres between which the median depth lies."""
MILLIMETRES = (100.0, 5000.0)
"""Medians of whole numbers that are taken for millimetres."""
BESIDE = (
    "scene_camera.json", "info.yml", "camera.json", "camera.yaml", "camera.yml",
    "camera_info.yaml", "camera_info.yml",
    "camera_info.json", "intrinsics.json", "intrinsic.json", "intrinsics.yaml", "intrinsics.txt",
    "camera-intrinsics.txt", "camera_intrinsic.json", "K.txt",
)  # fmt: skip
"""Files with cameras, in a frame's folder or the one above."""


@dataclass(frozen=True)
class Options:
    """How frames are read: ``--camera``, ``--intrinsics``, ``--depth-scale`` and ``--size``.

    `size` is (height, width) that frames are resized into, (0, 0) for never; None is the network's.
    """

    camera: CameraFile | None = None
    intrinsics: tuple[float, float, float, float] | None = None
    depth_scale: float | None = None
    size: tuple[int, int] | None = None


def make_options(
    camera: Path | None,
    intrinsics: tuple[float, float, float, float] | None,
    depth_scale: float | None,
    size: str | None,
) -> Options:
    """Options of the command line."""
    if depth_scale is not None and not 0 < depth_scale < float("inf"):
        raise UserError(
            f"--depth-scale is {depth_scale:g}", "use units per metre, e.g. 1000 for millimetres"
        )
    if camera is not None and intrinsics is not None:
        raise UserError("--camera and --intrinsics cannot be combined", "remove one of them")
    file = None if camera is None else CameraFile(camera)
    if size == "own":
        return Options(file, intrinsics, depth_scale, (0, 0))
    own = "use HEIGHTxWIDTH, e.g. 480x640, or own"
    return Options(file, intrinsics, depth_scale, None if size is None else image_size(size, own))


def image_size(text: str, hint: str = "use HEIGHTxWIDTH, e.g. 480x640") -> tuple[int, int]:
    """Convert ``--size``: height and width in pixels.

    Raises:
        UserError: it is something else.
    """
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()) or not all(
        32 <= int(side) <= 8192 for side in (height, width)
    ):
        raise UserError(f"--size is {text!r}", hint)
    return int(height), int(width)


@dataclass(frozen=True)
class OwnFrame:
    """A frame as it was read; `resized` is what the network takes.

    `assumptions` are lines on what the files do not tell.
    """

    frame: Frame
    camera: Camera
    assumptions: list[str] = field(default_factory=list)


def find_camera(paths: FramePaths, size: tuple[int, int], options: Options) -> Camera:
    """The camera of a frame: given, or in a file beside it.

    Raises:
        UserError: there is none, or it is of images of another size.
    """
    if options.intrinsics is not None:
        return given(options.intrinsics)
    for file in [options.camera] if options.camera else _beside(paths):
        camera = file.camera(paths.number, size)
        if camera.size is not None and camera.size != size:
            raise _other_resolution(camera, size)
        return camera
    raise UserError(
        f"no intrinsics of {paths.colour}: no file such as camera.json beside it",
        "add --intrinsics FX FY CX CY (pixels), or --camera FILE",
    )


def _beside(paths: FramePaths) -> Iterator[CameraFile]:
    stem = paths.name.rpartition("/")[2]
    home = paths.colour.absolute().parent
    own = [home / f"{stem}{end}" for end in ("-meta.mat", "-camera.json", ".json")]
    own.append(home / f"{paths.colour.stem}_metadata.csv")  # of RealSense Viewer
    folders = dict.fromkeys((home, paths.folder.absolute(), paths.folder.absolute().parent))
    for path in [*own, *(folder / name for folder in folders for name in BESIDE)]:
        if path.is_file():
            yield _camera_file(path)


@lru_cache(maxsize=64)
def _camera_file(path: Path) -> CameraFile:
    return CameraFile(path)


def _other_resolution(camera: Camera, size: tuple[int, int]) -> UserError:
    (height, width), factor = camera.size or size, size[0] / (camera.size or size)[0]
    hint = "use the camera file of this stream"
    if abs(width * factor - size[1]) < 1:
        m = camera.matrix * factor
        numbers = " ".join(f"{value:.6g}" for value in (m[0, 0], m[1, 1], m[0, 2], m[1, 2]))
        hint = f"if the images were resized, use --intrinsics {numbers}"
    return UserError(
        f"{camera.origin} is of images of {height} x {width} pixels, this one has "
        f"{size[0]} x {size[1]}",
        hint,
    )


def read_frame(paths: FramePaths, options: Options) -> OwnFrame:
    """Read a frame.

    Raises:
        UserError: a file is missing or unreadable, the images differ in size, intrinsics or units
            are unknown or absurd.
    """
    rgb, raw = read_image(paths.colour, registered=True), read_depth(paths.depth)
    if rgb.shape[:2] != raw.shape:
        sizes = " and ".join("{} x {}".format(*each.shape[:2]) for each in (rgb, raw))
        raise UserError(
            f"colour and depth of {paths.name} differ in size: {sizes} pixels",
            "register the depth to the colour image: align in librealsense, depth_image_proc in "
            "ROS; or record both registered",
        )
    camera = find_camera(paths, raw.shape, options)
    depth = np.nan_to_num(raw.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if depth.min(initial=0) < 0:
        raise UserError(
            f"{paths.depth} has a negative value: {depth.min():g}", "write 0 where nothing is known"
        )
    measured = depth[depth > 0]
    if not measured.size:
        raise UserError(f"{paths.depth} is empty: all values are 0", "use another frame")
    middle = float(np.median(measured))
    scale, assumption = _units(paths, options, camera, middle, is_float=raw.dtype.kind == "f")
    _check_distance(paths, middle, scale)
    check_camera(camera, raw.shape)
    assumptions = [assumption] if assumption else []
    if camera.distorted:
        assumptions.append(f"lens distortion in {camera.origin} is ignored: use undistorted images")
    if (rgb == rgb[..., :1]).all():
        assumptions.append(
            "the images are grey: a network that was trained on colour is less exact"
        )
    frame = Frame(
        name=paths.name,
        rgb=rgb,
        depth=depth,
        depth_scale=scale,
        labels=np.zeros(depth.shape, np.int32),
        intrinsics=camera.matrix,
    )
    return OwnFrame(frame, camera, assumptions)


def _units(
    paths: FramePaths, options: Options, camera: Camera, middle: float, *, is_float: bool
) -> tuple[float, str]:
    """Depth units per metre, and what is assumed."""
    if options.depth_scale is not None:
        return options.depth_scale, ""
    if camera.depth_scale is not None:
        return camera.depth_scale, ""
    if paths.depth_scale is not None:
        return paths.depth_scale, (
            f"depth is taken for {paths.depth_scale:g} units per metre, as in the TUM benchmark"
        )
    if is_float and NEAREST <= middle <= FARTHEST:
        return 1.0, f"depth is taken for metres (median {middle:.2f} m)"
    if MILLIMETRES[0] <= middle <= MILLIMETRES[1]:
        return 1000.0, f"depth is taken for millimetres (median {middle / 1000:.2f} m)"
    raise UserError(
        f"{paths.depth}: the unit of depth is unknown, its median is {middle:g}",
        "add --depth-scale UNITS_PER_METRE: 1000 for millimetres, 10000 for YCB-Video, 5000 for "
        "TUM, 1 for metres",
    )


def _check_distance(paths: FramePaths, middle: float, scale: float) -> None:
    if NEAREST <= middle / scale <= FARTHEST:
        return
    hint = "check the depth image"
    for other in (1000, 10000, 5000, 1):
        if 0.2 <= middle / other <= 5:
            hint = f"with --depth-scale {other} it is {middle / other:.2f} m"
            break
    raise UserError(
        f"{paths.depth}: the median depth is {middle / scale:.6g} m at {scale:g} units per metre",
        hint,
    )


def check_camera(camera: Camera, size: tuple[int, int]) -> None:
    """Refuse intrinsics that are of images of another size."""
    height, width = size
    (fx, _, cx), (_, fy, cy), _ = camera.matrix.tolist()
    wrong = implausible_intrinsics(camera.matrix, height, width)
    if not wrong:
        return
    if not (0 < cx < width and 0 < cy < height):
        problem = f"the principal point {cx:g}, {cy:g} is outside the image"
    elif {"cx", "cy"} & {*wrong}:
        problem = f"the principal point {cx:g}, {cy:g} is far from the image's middle"
    else:
        problem = f"the focal lengths are {fx:g}, {fy:g} pixels"
    raise UserError(
        f"{camera.origin}: {problem} of {height} x {width} pixels",
        "use intrinsics in pixels of this image size: FX FY CX CY, with CX about "
        f"{width / 2:g} and CY about {height / 2:g}; pad a part of an image to the whole",
    )


def read_depth(path: Path) -> npt.NDArray[Any]:
    """Read a depth image (H, W) as stored: PNG or TIFF of 16 bits, TIFF, EXR or NPY of floats.

    Raises:
        UserError: it is missing, unreadable, of 8 bits or has several channels.
    """
    check_file(path, "depth image", "add it, name it like the colour image, or use --depth FILE")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array = _read_npy(path)
    elif suffix == ".exr":
        array = _read_exr(path)
    else:
        array = read_single_channel(path, "depth image")
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise UserError(
            f"{path} is {array.shape} {array.dtype}", "store one channel (H, W) of numbers"
        )
    if array.dtype.itemsize == 1:
        raise UserError(
            f"{path} has 8 bits: a picture of depth, not distances",
            "save the depth itself: PNG of 16 bits in millimetres, or NPY of float metres",
        )
    return array


def _read_npy(path: Path) -> npt.NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.size > MAX_PIXELS:
            raise UserError(f"{path} has the shape {array.shape}", SMALLER)
        return np.array(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    except (OSError, ValueError, EOFError) as error:
        hint = "save it with numpy.save: (H, W) integers or floats"
        raise UserError(f"cannot read {path}: {reason_of(error)}", hint) from error


def _read_exr(path: Path) -> npt.NDArray[Any]:
    os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")  # read when OpenCV opens its first
    try:
        array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        reason = "it is damaged, or this OpenCV was built without OpenEXR"
    except cv2.error as error:
        array, reason = None, flat(str(error))
    if array is None:
        raise UserError(f"cannot read {path}: {reason}", "convert it to NPY or TIFF of float32")
    return np.asarray(array[..., 0] if array.ndim == 3 else array)


def fitted_size(size: tuple[int, int], within: tuple[int, int]) -> tuple[int, int]:
    """The size of images resized to fit `within`, in the same aspect."""
    factor = min(within[0] / size[0], within[1] / size[1])
    return max(8, round(size[0] * factor)), max(8, round(size[1] * factor))


def resized(frame: Frame, size: tuple[int, int]) -> Frame:
    """Resize a frame to (height, width); intrinsics follow."""
    if frame.depth.shape == size:
        return frame
    factors = np.array([size[1] / frame.depth.shape[1], size[0] / frame.depth.shape[0]])
    smaller = cv2.INTER_AREA if factors.max() < 1 else cv2.INTER_LINEAR
    intrinsics = frame.intrinsics.astype(np.float64)
    intrinsics[:2, :2] *= factors[:, None]
    # Pixel centres are at whole numbers.
    intrinsics[:2, 2] = (intrinsics[:2, 2] + 0.5) * factors - 0.5
    shape = (size[1], size[0])
    nearest = cv2.resize(frame.depth, shape, interpolation=cv2.INTER_NEAREST_EXACT)
    return Frame(
        name=frame.name,
        rgb=cv2.resize(frame.rgb, shape, interpolation=smaller).astype(np.uint8, copy=False),
        depth=nearest.astype(np.float32, copy=False),
        depth_scale=frame.depth_scale,
        labels=np.zeros(size, np.int32),
        intrinsics=intrinsics,
    )
