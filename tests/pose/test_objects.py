"""Object models without files are those in the toy data."""

from pathlib import Path

import numpy as np

from ffreid.pose.toy.dataset import toy_object_models
from tests.makers import toy_folder


def test_the_toy_objects_are_those_of_the_toy_data(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path, frames=1, test_frames=1, synthetic=0, height=16, width=16)
    config, objects = folder / "dataset_config", toy_object_models("toy-pose")
    assert list(objects.names) == (config / "classes.txt").read_text().split()
    symmetric = (config / "symmetric.txt").read_text().split()
    assert [objects.name(class_id) for class_id in objects.symmetric] == symmetric == ["bowl"]
    radii = np.loadtxt(config / "radius.txt", dtype=np.float32)
    np.testing.assert_array_equal(objects.radii, radii)
    for row, name in enumerate(objects.names):
        for values, file in ((objects.keypoints, "8_kps"), (objects.corners, "corners")):
            stored = np.loadtxt(folder / f"ycb_kps/{name}_{file}.txt", dtype=np.float32)
            np.testing.assert_array_equal(values[row], stored)
