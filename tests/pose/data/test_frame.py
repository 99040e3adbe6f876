"""Frames from arrays: accepted and refused arguments."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ffreid.errors import UserError
from ffreid.pose.data.frame import frame_from_arrays

RGB = np.zeros((16, 24, 3), np.uint8)
DEPTH = np.full((16, 24), 800, np.uint16)
CAMERA = np.array([[20.0, 0, 12], [0, 20, 8], [0, 0, 1]])


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_depth_has_any_number_type(dtype: type) -> None:
    frame = frame_from_arrays(RGB, DEPTH.astype(dtype), CAMERA, 1000)
    assert frame.depth.dtype == np.float32
    assert (frame.depth == 800).all()
    assert frame.depth_scale == 1000


def test_arrays_may_be_tensors_and_lists() -> None:
    frame = frame_from_arrays(torch.from_numpy(RGB), DEPTH.tolist(), CAMERA.tolist(), 1000)
    assert frame.rgb.shape == (16, 24, 3)
    assert frame.intrinsics.dtype == np.float64


def test_nan_and_infinity_are_missing_depth() -> None:
    depth = DEPTH.astype(np.float32)
    depth[3, 4:7] = np.nan, np.inf, -np.inf
    frame = frame_from_arrays(RGB, depth, CAMERA, 1000)
    assert not frame.depth[3, 4:7].any()
    assert (frame.depth > 0).sum() == depth.size - 3


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"rgb": RGB[..., 0]}, r"rgb is \(16, 24\) uint8"),
        ({"rgb": RGB.transpose(2, 0, 1)}, r"rgb is \(3, 16, 24\) uint8"),
        ({"rgb": RGB.astype(np.float32)}, r"rgb is \(16, 24, 3\) float32"),
        ({"rgb": [[1], [1, 2]]}, "rgb is not an array"),
        ({"depth": DEPTH[..., None]}, r"depth is \(16, 24, 1\) uint16"),
        ({"depth": DEPTH > 0}, r"depth is \(16, 24\) bool"),
        ({"depth": DEPTH.T}, r"rgb is \(16, 24, 3\) uint8, depth is \(24, 16\) uint16"),
        ({"depth": DEPTH.astype(np.float32) - 801}, "depth has a negative value: -1"),
        ({"intrinsics": CAMERA[:2]}, r"intrinsics is \(2, 3\) float64"),
        ({"intrinsics": CAMERA * np.nan}, "intrinsics is"),
        ({"intrinsics": -CAMERA}, "intrinsics is"),
        ({"intrinsics": CAMERA.T}, "intrinsics is"),
        ({"intrinsics": 10 * CAMERA}, "intrinsics is"),
        ({"intrinsics": CAMERA + np.eye(3, k=1) * [0, 3, 0]}, "have a skew of 3 pixels"),
        ({"intrinsics": CAMERA - np.eye(3, k=-1) * [3, 0, 0]}, "have a skew of 3 pixels"),
        ({"depth_scale": 0}, "depth_scale is 0"),
        ({"depth_scale": np.nan}, "depth_scale is nan"),
        ({"depth_scale": "mm"}, "depth_scale is mm"),
        ({"depth_scale": True}, "depth_scale is True"),
    ],
)
def test_invalid_arguments_are_errors(change: dict[str, Any], error: str) -> None:
    valid = dict[str, Any](rgb=RGB, depth=DEPTH, intrinsics=CAMERA, depth_scale=1000.0)
    with pytest.raises(UserError, match=error):
        frame_from_arrays(**valid | change)


WIDE = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])


@pytest.mark.parametrize(
    ("depth", "scale", "camera", "error"),
    [
        (800.0, 1000, WIDE, None),
        (0.8, 1, WIDE, None),
        (0.0, 1000, WIDE, None),
        (0.8, 1000, WIDE, "median of the measured depth is 0.0008 m: depth_scale is 1000 units"),
        (800.0, 10000, WIDE, "is 0.08 m: depth_scale is 10000"),
        (800.0, 0.001, WIDE, r"is 8e\+05 m: depth_scale is 0.001"),
        (65535.0, 1000, WIDE, "is 65.5 m"),
        (800.0, 1000, np.eye(3), "not of an image of 480 x 640 pixels: fx, fy, cx, cy"),
        (800.0, 1000, WIDE / [[640], [480], [1]], "pixels: fx, fy, cx, cy"),
        (800.0, 1000, WIDE * [[2], [2], [1]], "pixels: cx, cy"),
        (800.0, 1000, WIDE * [[0.5], [0.5], [1]], "pixels: cx, cy"),
        (800.0, 1000, WIDE * [[5], [5], [1]], "pixels: cx, cy"),
        (800.0, 1000, WIDE / [[100, 1, 1], [100, 100, 1], [1, 1, 1]], "pixels: fx, fy"),
    ],
)
def test_depth_and_cameras_that_cannot_be_are_refused(
    depth: float, scale: float, camera: npt.NDArray[np.float64], error: str | None
) -> None:
    rgb, depths = np.zeros((480, 640, 3), np.uint8), np.full((480, 640), depth)
    depths[:100] = 0
    if error is None:
        assert frame_from_arrays(rgb, depths, camera, scale).depth_scale == scale
        return
    with pytest.raises(UserError, match=error):
        frame_from_arrays(rgb, depths, camera, scale)


def test_a_wide_image_padded_to_a_square_is_taken() -> None:
    rgb, camera = np.zeros((1280, 1280, 3), np.uint8), WIDE * [[2], [1.5], [1]]
    frame_from_arrays(rgb, np.ones((1280, 1280)), camera, 1)
