"""Intrinsics and depth scales from the files that cameras, ROS and data sets write."""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from ffreid.config import parse_yaml
from ffreid.engine.dataset_files import read_text, reason_of
from ffreid.errors import UserError, flat
from ffreid.files import check_file
from ffreid.pose.data.frame import camera_matrix

Matrix = npt.NDArray[np.float64]

HINT = (
    "use JSON or YAML with fx, fy, cx, cy or a matrix K (ROS, RealSense, BOP, Open3D), nine "
    "numbers, a meta.mat file, or --intrinsics FX FY CX CY"
)
MATRICES = ("cam_K", "K", "k", "camera_matrix", "intrinsic_matrix", "intrinsics", "intrinsic")
"""Names of matrices: of BOP, ROS, OpenCV and ROS' calibration, Open3D and YCB-Video."""
SCALES = ("depth_scale", "factor_depth", "depth_units")
LARGEST = 10_000_000
"""Bytes of a camera file."""
_TEXT = re.compile(
    r"^\W*(fx|fy|ppx|ppy|width|height|resolution x|resolution y)\s*[:,=]\s*([\d.]+)", re.I | re.M
)
_SECTION = re.compile(r'^\s*Intrinsic of "(\w+)" / (\d+)x(\d+)', re.M)
# Of a parsed mapping with fx, fy, cx, cy.
_NAMES = {"fx": ("fx", "Fx"), "fy": ("fy", "Fy"), "cx": ("cx", "ppx", "PPx"), "cy": ("cy", "ppy")}


@dataclass(frozen=True)
class Camera:
    """A camera, as far as a file tells.

    Attributes:
        matrix: (3, 3) intrinsics, pixels.
        size: height and width of its images.
        depth_scale: depth units per metre.
        distorted: lens distortion is not zero.
        origin: the file, or what else it comes from.
    """

    matrix: Matrix
    size: tuple[int, int] | None = None
    depth_scale: float | None = None
    distorted: bool = False
    origin: str = ""


class CameraFile:
    """Cameras in a file: one for all images, or one for each image number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_file(path, "camera file", HINT)
        try:
            content = _read(path)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {reason_of(error)}", HINT) from error
        self.sections = content if isinstance(content, str) else ""
        self.numbered: dict[int, Any] = {}
        self.single: Any = None if self.sections else content
        if isinstance(content, Mapping) and content and all(map(_is_number, content)):
            self.numbered = {int(key): value for key, value in content.items()}

    def camera(self, image: int | None, size: tuple[int, int]) -> Camera:
        """The camera of an image by its number, or of images of a size (of several streams).

        Raises:
            UserError: there is none.
        """
        content = self.single
        if self.numbered:
            if image not in self.numbered:
                first = ", ".join(map(str, list(self.numbered)[:3]))
                raise UserError(
                    f"{self.path} has no camera of image {image} (it has {first}, …)",
                    "add the image's number, or use --intrinsics FX FY CX CY",
                )
            content = self.numbered[image]
        elif self.sections:
            content = _stream(self.sections, size)
        camera = _parse(content, str(self.path))
        if camera is None:
            raise UserError(f"{self.path} has no intrinsics", HINT)
        return camera


def given(values: tuple[float, float, float, float]) -> Camera:
    """The camera of ``--intrinsics FX FY CX CY``."""
    fx, fy, cx, cy = values
    if not all(map(math.isfinite, values)) or min(fx, fy) <= 0:
        raise UserError(
            f"--intrinsics {' '.join(f'{value:g}' for value in values)} is no camera",
            "give four numbers in pixels: focal lengths above 0, then the principal point",
        )
    return Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), origin="--intrinsics")


def _is_number(key: Any) -> bool:
    return isinstance(key, int) or (isinstance(key, str) and key.isdecimal() and len(key) < 19)


def _read(path: Path) -> Any:
    """Parse a file: nested values, or text with sections as `_stream` takes them."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, too many for a camera")
    if path.suffix == ".mat":
        try:
            return loadmat(path, variable_names=["intrinsic_matrix", "factor_depth"])
        except Exception as error:  # scipy raises errors of many types on a damaged file
            raise ValueError(flat(str(error))) from error
    text = read_text(path)
    if _SECTION.search(text) or (len(_TEXT.findall(text)) >= 4 and path.suffix in (".csv", ".txt")):
        return text
    words = text.replace(",", " ").split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        with suppress(ValueError, RecursionError):
            return json.loads(text)  # YAML takes 1e-05 for text
        # OpenCV's YAML has a line and tags of its own, ROS separates messages.
        text = re.sub(r"^%YAML.*|!!opencv-\w+", "", text)
        return parse_yaml(re.split(r"^---\s*$", text.strip().removeprefix("---"), flags=re.M)[0])
    return {"K": numbers}


def _stream(text: str, size: tuple[int, int]) -> Any:
    """Numbers of a colour stream of this size in a RealSense dump, else of the whole text."""
    parts = _SECTION.split(text)[1:]
    for name, width, height, body in zip(*(parts[i::4] for i in range(4)), strict=True):
        if name.lower() == "color" and (int(height), int(width)) == size:
            text = body
            break
    else:
        if parts:
            return None
    found: dict[str, float] = {}
    for name, value in _TEXT.findall(text):
        found.setdefault(name.lower().replace("resolution x", "width"), float(value))
    found |= {"height": found["resolution y"]} if "resolution y" in found else {}
    return found


def _parse(content: Any, origin: str) -> Camera | None:
    if not isinstance(content, Mapping):
        return None
    matrix = _matrix(content)
    if matrix is None:  # nested: {"color": {…}, "depth_scale": …}
        inner: list[Camera] = []
        for name in sorted(content, key=lambda key: str(key).lower() not in ("color", "rgb")):
            if isinstance(content[name], Mapping) and (found := _parse(content[name], origin)):
                inner.append(found)
        if not inner:
            return None
        scale = _depth_scale(content, origin) or inner[0].depth_scale
        return Camera(inner[0].matrix, inner[0].size, scale, inner[0].distorted, origin)
    height, width = (_integer(content, name) for name in ("height", "width"))
    size = (height, width) if height and width else None
    distortion: Any = next(
        (content[n] for n in ("D", "d", "coeffs", "distortion") if n in content), []
    )
    try:
        distorted = bool(np.any(np.asarray(distortion, np.float64)))
    except (TypeError, ValueError):
        distorted = False
    return Camera(matrix, size, _depth_scale(content, origin), distorted, origin)


def _integer(content: Mapping[Any, Any], name: str) -> int | None:
    value = content.get(name, content.get(f"image_{name}"))
    return int(value) if isinstance(value, int | float) and 0 < value < 2**31 else None


def _matrix(content: Mapping[Any, Any]) -> Matrix | None:
    numbers = [next((content[n] for n in names if n in content), None) for names in _NAMES.values()]
    if all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        fx, fy, cx, cy = numbers
        return camera_matrix([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    for name in MATRICES:
        value = content.get(name)
        if isinstance(value, Mapping):
            value = value.get("data", value)
        if isinstance(value, Mapping):
            return _matrix(value)
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            continue
        if array.size == 4 and array.ndim == 1:
            return _matrix(dict(zip(_NAMES, array.tolist(), strict=True)))
        if array.size == 16:  # of 3 x 3 in 4 x 4
            array = array.reshape(4, 4)[:3, :3]
        if array.size == 9:
            matrix = array.reshape(3, 3)
            found = camera_matrix(matrix)
            return camera_matrix(matrix.T) if found is None else found  # Open3D's is by columns
    return None


def _depth_scale(content: Mapping[Any, Any], origin: str) -> float | None:
    """Depth units per metre.

    Data sets and cameras store units per metre (Open3D, YCB-Video), millimetres per unit (BOP)
    or metres per unit (RealSense), in ranges that do not overlap.
    """
    for name in SCALES:
        value = np.asarray(content.get(name))
        if value.size != 1 or value.dtype.kind not in "iuf":
            continue
        number = float(value.reshape(-1)[0])
        if not (math.isfinite(number) and number > 0):
            raise UserError(
                f"{origin}: {name} is {number:g}",
                "give units per metre, millimetres per unit or metres per unit, or remove it",
            )
        return number if number >= 50 else (1000 / number if number > 0.02 else 1 / number)
    return None
