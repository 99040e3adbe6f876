"""Depth of every format and unit gives one frame; what is absurd is refused with a mending hint."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ffreid.errors import UserError
from ffreid.pose.own.cameras import CameraFile
from ffreid.pose.own.find import find
from ffreid.pose.own.read import Options, fitted_size, read_frame, resized
from tests.pose.own.makers import HEIGHT, WIDTH, millimetres, own_frame, write_pair, write_png

FRAME = own_frame()
MILLIMETRES = millimetres(FRAME)
METRES = (MILLIMETRES / np.float32(1000)).astype(np.float32)
K = FRAME.intrinsics
NUMBERS = (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))


def read(folder: Path, **options: Any) -> Any:
    (frame,) = find(folder)
    return read_frame(frame, Options(**{"intrinsics": NUMBERS, **options}))


def write_depth(folder: Path, depth: npt.NDArray[Any], suffix: str) -> None:
    write_png(folder / "a-color.png", FRAME.rgb)
    path = folder / f"a-depth{suffix}"
    if suffix == ".npy":
        np.save(path, depth)
    elif suffix == ".png":
        write_png(path, depth)
    else:
        Image.fromarray(depth).save(path)


@pytest.mark.parametrize(
    ("depth", "suffix", "said"),
    [
        (MILLIMETRES, ".png", "millimetres"),
        (MILLIMETRES, ".tiff", "millimetres"),
        (MILLIMETRES, ".npy", "millimetres"),
        (METRES, ".npy", "metres"),
        (METRES, ".tif", "metres"),
        (METRES.astype(np.float64)[..., None], ".npy", "metres"),
        (np.where(METRES > 0, METRES, np.nan), ".npy", "metres"),
        (METRES * 1000, ".tiff", "millimetres"),
    ],
)
def test_every_format_is_read(
    depth: npt.NDArray[Any], suffix: str, said: str, tmp_path: Path
) -> None:
    write_depth(tmp_path, depth, suffix)
    own = read(tmp_path)
    np.testing.assert_allclose(own.frame.depth / own.frame.depth_scale, METRES, atol=1e-6)
    assert len(own.assumptions) == 1
    assert f"taken for {said}" in own.assumptions[0]
    np.testing.assert_array_equal(own.frame.rgb, FRAME.rgb)


def test_units_are_given_or_found_beside_the_frame(tmp_path: Path) -> None:
    write_pair(tmp_path)
    assert read(tmp_path, depth_scale=1100.0).frame.depth_scale == 1100
    camera = {"cam_K": K.ravel().tolist(), "depth_scale": 0.9}
    (tmp_path / "scene_camera.json").write_text(json.dumps({"0": camera}))
    (tmp_path / "a-color.png").rename(tmp_path / "0-color.png")
    (tmp_path / "a-depth.png").rename(tmp_path / "0-depth.png")
    own = read(tmp_path, intrinsics=None)
    assert own.frame.depth_scale == pytest.approx(1000 / 0.9)
    assert not own.assumptions
    np.testing.assert_allclose(own.frame.intrinsics, K)


def test_grey_images_are_noted(tmp_path: Path) -> None:
    write_pair(tmp_path, frame=replace(FRAME, rgb=FRAME.rgb[..., :1].repeat(3, axis=2)))
    assert read(tmp_path).assumptions[-1].startswith("the images are grey")


def camera_json(**changes: float) -> str:
    names = ("fx", "fy", "cx", "cy")
    return json.dumps(dict(zip(names, NUMBERS, strict=True)) | changes)


def bad(folder: Path, name: str) -> dict[str, Any]:
    """Write a frame with one mistake; return the options to read it with."""
    depth, rgb, options = MILLIMETRES, FRAME.rgb, dict[str, Any]()
    match name:
        case "sizes differ":
            depth = depth[:48]
        case "depth has 8 bits":
            depth = (depth // 16).astype(np.uint8)
        case "depth has colours":
            depth = np.repeat(depth.astype(np.uint8)[..., None], 3, axis=2)
        case "depth is empty":
            depth = np.zeros_like(depth)
        case "unit is unknown":
            depth = (depth * 20).astype(np.uint16)
        case "depth is too far":
            options["depth_scale"] = 10.0
        case "depth is too near":
            options["depth_scale"] = 100_000.0
        case "no intrinsics":
            options["intrinsics"] = None
        case "principal point outside":
            options["intrinsics"] = (140, 140, 500, 48)
        case "principal point far from the middle":
            options["intrinsics"] = (140, 140, 100, 48)
        case "intrinsics of half the size":
            options["intrinsics"] = tuple(number / 2 for number in NUMBERS)
        case "focal length in millimetres":
            options["intrinsics"] = (4, 4, 64, 48)
    write_png(folder / "a-color.png", rgb)
    write_png(folder / "a-depth.png", depth)
    match name:
        case "camera of another resolution":
            (folder / "camera.json").write_text(camera_json(width=2 * WIDTH, height=2 * HEIGHT))
            options["intrinsics"] = None
        case "colour is no image":
            (folder / "a-color.png").write_text("text")
        case "depth is cut":
            path = folder / "a-depth.png"
            path.write_bytes(path.read_bytes()[:300])
        case "colour is turned":
            exif = Image.Exif()
            exif[274] = 6
            Image.fromarray(FRAME.rgb).save(folder / "a-color.png", exif=exif)
        case "depth is missing":
            (folder / "a-depth.png").unlink()
        case "depth is negative":
            (folder / "a-depth.png").unlink()
            np.save(folder / "a-depth.npy", -METRES)
        case "array is pickled":
            (folder / "a-depth.png").unlink()
            np.save(folder / "a-depth.npy", np.array([{}], object), allow_pickle=True)
        case "array has three axes":
            (folder / "a-depth.png").unlink()
            np.save(folder / "a-depth.npy", np.zeros((4, 4, 3)))
        case "exr is damaged":
            (folder / "a-depth.png").unlink()
            (folder / "a-depth.exr").write_bytes(b"v/1\1 nothing")
    return options


BAD = {
    "sizes differ": ("differ in size", "register"),
    "depth has 8 bits": ("8 bits", "16 bits"),
    "depth has colours": ("not one channel", "single-channel"),
    "depth is empty": ("all values are 0", "another frame"),
    "unit is unknown": ("unit of depth is unknown", "--depth-scale"),
    "depth is too far": ("median depth is", "--depth-scale 1000"),
    "depth is too near": ("median depth is", "--depth-scale 1000"),
    "no intrinsics": ("no intrinsics of", "--intrinsics FX FY CX CY"),
    "principal point outside": ("outside the image", "CX about 64"),
    "principal point far from the middle": ("far from the image's middle", "CX about 64"),
    "intrinsics of half the size": ("far from the image's middle", "CX about 64"),
    "focal length in millimetres": ("focal lengths", "pixels"),
    "camera of another resolution": ("is of images of 192 x 256", "--intrinsics"),
    "colour is no image": ("not a PNG", "convert"),
    "depth is cut": ("cannot read", "damaged"),
    "colour is turned": ("EXIF", "turn"),
    "depth is missing": ("no depth image", "add it"),
    "depth is negative": ("negative", "0 where"),
    "array is pickled": ("cannot read", "numpy.save"),
    "array has three axes": ("(4, 4, 3)", "one channel"),
    "exr is damaged": ("cannot read", "NPY"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_named_with_what_mends_it(name: str, tmp_path: Path) -> None:
    options = bad(tmp_path, name)
    with pytest.raises(UserError) as caught:
        read(tmp_path, **options)
    message, hint = BAD[name]
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_hint_on_another_resolution_has_the_numbers(tmp_path: Path) -> None:
    write_pair(tmp_path)
    path = tmp_path / "twice.json"
    doubled = {name: 2 * value for name, value in json.loads(camera_json()).items()}
    path.write_text(json.dumps(doubled | {"width": 2 * WIDTH, "height": 2 * HEIGHT}))
    with pytest.raises(UserError) as caught:
        read(tmp_path, intrinsics=None, camera=CameraFile(path))
    words = caught.value.hint.split("--intrinsics ")[1].split()
    np.testing.assert_allclose([float(word) for word in words], NUMBERS, rtol=1e-5)


def test_resizing_keeps_the_geometry() -> None:
    size = fitted_size((HEIGHT, WIDTH), (48, 640))
    assert size == (48, 64)
    small = resized(FRAME, size)
    assert small.depth.shape == small.rgb.shape[:2] == size
    # The corners of the image stay where they are.
    for frame in (FRAME, small):
        height, width = frame.depth.shape
        edges = np.array([[-0.5, -0.5, 1], [width - 0.5, height - 0.5, 1]]).T
        rays = np.linalg.inv(frame.intrinsics.astype(np.float64)) @ edges
        if frame is FRAME:
            expected = rays
    np.testing.assert_allclose(rays, expected)
    assert set(np.unique(small.depth)) <= set(np.unique(FRAME.depth))
    assert resized(FRAME, (HEIGHT, WIDTH)) is FRAME
    assert cv2.resize(FRAME.rgb, (64, 48), interpolation=cv2.INTER_AREA).tolist() == (
        small.rgb.tolist()
    )
