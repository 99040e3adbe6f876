"""Frames from arrays: accepted and refused arguments."""

from typing import Any

import numpy as np
import pytest
import torch

from ffreid.errors import UserError
from ffreid.pose.data.frame import check_size, frame_from_arrays

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
    frame = frame_from_arrays(torch.from_numpy(RGB), DEPTH.tolist(), CAMERA.tolist(), 1)
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


@pytest.mark.parametrize(
    ("height", "width", "downscale", "fitting"),
    [
        (20, 24, 1, "(16, 24)"),
        (16, 20, 1, "(16, 16)"),
        (24, 24, 2, "(16, 16)"),
        (4, 8, 1, "(8, 8)"),
        (16, 24, 1, None),
        (33, 49, 2, None),
    ],
)
def test_an_unsuitable_size_is_reported_with_a_suitable_one(
    height: int, width: int, downscale: int, fitting: str | None
) -> None:
    rgb = np.zeros((height, width, 3), np.uint8)
    frame = frame_from_arrays(rgb, np.ones((height, width)), CAMERA, 1)
    if fitting is None:
        check_size(frame, downscale)
        return
    with pytest.raises(UserError, match=f"rgb and depth are {height} x {width}") as caught:
        check_size(frame, downscale)
    assert fitting in caught.value.hint
