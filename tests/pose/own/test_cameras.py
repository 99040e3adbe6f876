"""Camera files of every origin give the same camera; those that are none are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import yaml

from ffreid.errors import UserError
from ffreid.pose.own.cameras import CameraFile, given

MATRIX = np.array([[600.0, 0, 320], [0, 610, 240], [0, 0, 1]])
FLAT = MATRIX.ravel().tolist()
NUMBERS = {"fx": 600.0, "fy": 610.0, "cx": 320.0, "cy": 240.0}
PRINCIPAL = {"fx": 600.0, "fy": 610.0, "ppx": 320.0, "ppy": 240.0}
SIZE = {"width": 640, "height": 480}
REALSENSE_TEXT = """
 Intrinsic of "Depth" / 640x480 / {Z16}
  Width:      	640
  Height:     	480
  PPX:        	1
  PPY:        	2
  Fx:         	3
  Fy:         	4

 Intrinsic of "Color" / 640x480 / {YUYV/RGB8}
  Width:      	640
  Height:     	480
  PPX:        	320
  PPY:        	240
  Fx:         	600
  Fy:         	610
"""
VIEWER = "Resolution x,640\nResolution y,480\nFx,600\nFy,610\nPPx,320\nPPy,240\nDistortion,None\n"
OPENCV = """%YAML:1.0
---
image_width: 640
image_height: 480
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 600., 0., 320., 0., 610., 240., 0., 0., 1. ]
"""
FILES: dict[str, tuple[str, str, float | None]] = {
    "ROS 1": ("a.yaml", yaml.safe_dump({**SIZE, "D": [0.0] * 5, "K": FLAT}) + "---\n", None),
    "ROS 2": ("a.yaml", yaml.safe_dump({**SIZE, "d": [0.0] * 5, "k": FLAT}), None),
    "ROS calibration": (
        "a.yaml",
        yaml.safe_dump({"image_width": 640, "image_height": 480, "camera_matrix": {"data": FLAT}}),
        None,
    ),
    "OpenCV": ("a.yml", OPENCV, None),
    "BOP": ("camera.json", json.dumps({**NUMBERS, **SIZE, "depth_scale": 0.1}), 10000.0),
    "a small number": ("camera.json", json.dumps({**NUMBERS, **SIZE, "depth_units": 1e-5}), 1e5),
    "BOP scene": (
        "scene_camera.json",
        json.dumps({"7": {"cam_K": FLAT, "depth_scale": 1.0}, "8": {"cam_K": [1] * 9}}),
        1000.0,
    ),
    "LineMOD": ("info.yml", yaml.safe_dump({7: {"cam_K": FLAT, "depth_scale": 1.0}}), 1000.0),
    "RealSense": ("a.json", json.dumps({**PRINCIPAL, **SIZE, "coeffs": [0.0] * 5}), None),
    "RealSense, nested": (
        "a.json",
        json.dumps({"depth_scale": 0.001, "depth": PRINCIPAL | {"fx": 1}, "color": PRINCIPAL}),
        1000.0,
    ),
    "RealSense, enumerated": ("a.txt", REALSENSE_TEXT, None),
    "RealSense, viewer": ("a_metadata.csv", VIEWER, None),
    "Open3D": (
        "a.json",
        json.dumps({**SIZE, "intrinsic_matrix": MATRIX.T.ravel().tolist(), "depth_scale": 1000.0}),
        1000.0,
    ),
    "numbers": ("K.txt", "600 0 320\n0 610 240\n0 0 1\n", None),
    "4 x 4": ("K.txt", "600 0 320 0\n0 610 240 0\n0 0 1 0\n0 0 0 1\n", None),
    "four numbers": ("K.txt", "600, 610, 320, 240\n", None),
    "byte order mark": ("a.json", "\ufeff" + json.dumps(NUMBERS), None),
}


@pytest.mark.parametrize("origin", FILES)
def test_cameras_are_read(origin: str, tmp_path: Path) -> None:
    name, text, scale = FILES[origin]
    path = tmp_path / name
    path.write_text(text)
    camera = CameraFile(path).camera(7, (480, 640))
    np.testing.assert_array_equal(camera.matrix, MATRIX)
    assert camera.depth_scale == (None if scale is None else pytest.approx(scale))
    assert camera.size in (None, (480, 640))
    assert not camera.distorted


def test_a_meta_mat_file_is_read(tmp_path: Path) -> None:
    meta = {"intrinsic_matrix": MATRIX, "factor_depth": np.array([[10000]], np.uint16)}
    scipy.io.savemat(tmp_path / "a-meta.mat", meta)
    camera = CameraFile(tmp_path / "a-meta.mat").camera(1, (480, 640))
    np.testing.assert_array_equal(camera.matrix, MATRIX)
    assert camera.depth_scale == 10000


def test_distortion_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(NUMBERS | {"D": [0.1, 0, 0, 0, 0]}))
    assert CameraFile(tmp_path / "a.json").camera(None, (480, 640)).distorted


WRONG = {
    "no file": (None, "no camera file"),
    "empty": ("", "no intrinsics"),
    "no JSON": ("{", "cannot read"),
    "binary": ("\0\1", "cannot read"),
    "other keys": ('{"focal": 600}', "no intrinsics"),
    "zero focal length": (json.dumps(NUMBERS | {"fx": 0}), "no intrinsics"),
    "text for a number": (json.dumps(NUMBERS | {"fx": "wide"}), "no intrinsics"),
    "five numbers": ("1 2 3 4 5", "no intrinsics"),
    "another image": ('{"1": {"cam_K": [1, 2]}}', "no camera of image 7"),
    "stream of another size": (REALSENSE_TEXT.replace("640x480", "1280x720"), "no intrinsics"),
    "nested without end": ("[" * 5000, "cannot read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_without_a_camera_is_refused(name: str, tmp_path: Path) -> None:
    text, message = WRONG[name]
    path = tmp_path / "camera.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        CameraFile(path).camera(7, (480, 640))
    assert "\n" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("numbers", [(0, 1, 2, 3), (1, -1, 2, 3), (1, float("nan"), 2, 3)])
def test_given_numbers_are_checked(numbers: tuple[float, float, float, float]) -> None:
    with pytest.raises(UserError, match="--intrinsics"):
        given(numbers)
