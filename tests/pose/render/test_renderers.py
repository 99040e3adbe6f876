"""The renderers draw the same scene."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

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
