"""The renderers draw the same scene."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.pose.render.frames import FrameWriter, Setup
from ffreid.pose.render.renderers import open_renderer
from ffreid.pose.render.scenes import instances

SETUP = Setup(Path(), (120.0, 121.0, 63.0, 47.5), (96, 128), 10000.0, 1, 2, True, "embree")


def test_opengl_and_embree_agree(objects: Path, tmp_path: Path) -> None:
    pytest.importorskip("moderngl")
    # In a process of its own: Mesa and triton have different versions of LLVM.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            pool.submit(compare_opengl, objects, tmp_path).result()
        except UserError as error:
            pytest.skip(error.message)


def compare_opengl(objects: Path, folder: Path) -> None:
    opengl, embree = open_renderer("opengl"), open_renderer("embree")
    writer = FrameWriter(replace(SETUP, objects=objects), folder, embree)
    for number in range(3):
        scene, image, _ = writer.draw("train", number)
        other = opengl.render(scene)
        same = image.labels == other.labels
        assert same.mean() > 0.999
        assert np.abs(image.depth - other.depth)[same].max() < 0.001
        # Shadows have other edges, textures are sampled a little differently.
        assert np.abs(image.rgb.astype(int) - other.rgb)[same].mean() < 4
        for _, body in instances(scene):
            window = (-20, 10, 150, 70)
            masks = [r.silhouette(scene, body, window) for r in (embree, opengl)]
            assert (masks[0] != masks[1]).mean() < 0.001


def test_mitsuba_sees_the_same_depth(
    objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mitsuba = pytest.importorskip("mitsuba")
    from ffreid.pose.render import photoreal

    monkeypatch.setattr(photoreal, "SAMPLES", 4)
    renderer = open_renderer("mitsuba")
    writer = FrameWriter(replace(SETUP, objects=objects), tmp_path, renderer)
    scene, image, _ = writer.draw("train", 0)
    positions = {"type": "aov", "aovs": "place:position"}
    made = mitsuba.load_dict(photoreal.describe(scene, positions, 64))
    depth = np.asarray(mitsuba.render(made))[:, :, -1]
    # Mitsuba averages over pixels: compare where surfaces are flat.
    kernel = np.ones((3, 3), np.uint8)
    labels = image.labels.astype(np.float32)
    flat = cv2.dilate(labels, kernel) == cv2.erode(labels, kernel)
    flat &= np.abs(cv2.Laplacian(image.depth.astype(float), cv2.CV_64F)) < 0.0005
    flat &= image.depth < 1.5
    assert flat.mean() > 0.5
    assert np.percentile(np.abs(depth - image.depth)[flat], 99) < 0.001
    assert 60 < np.median(image.rgb.max(axis=2)) < 180
