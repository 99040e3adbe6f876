"""Constants of the datasets equal those of the original."""

from typing import Any

import numpy as np
import pytest

from ffreid.pose.objects import linemod_objects, ycb_objects
from ffreid.pose.resources import resource
from tests.golden import manifest, recordings

pytestmark = pytest.mark.golden


@pytest.fixture(params=recordings("ffb6d", "fps*.npz"))
def constants() -> Any:
    return manifest("ffb6d", "constants.json")


def test_ycb_objects_and_lists_agree(constants: Any) -> None:
    ycb, objects = constants["ycb"], ycb_objects()
    assert list(objects.names) == ycb["classes"]
    assert sorted(objects.symmetric) == sorted(ycb["sym_cls_ids"])
    for field in ("keypoints", "corners"):
        expected = np.array([ycb[field][name] for name in objects.names], np.float32)
        np.testing.assert_array_equal(getattr(objects, field), expected)
    radii = ycb["radius"]
    rows = [radii[name] for name in objects.names] if isinstance(radii, dict) else radii
    np.testing.assert_array_equal(objects.radii, np.array(rows, np.float32))
    lists = resource("ycb")["lists"]
    assert lists["train"]["lines"] == ycb["train_list"]["lines"]
    assert lists["train"]["real"] == ycb["train_list"]["real"]
    assert lists["train"]["synthetic"] == ycb["train_list"]["syn"]
    assert lists["test"]["lines"] == ycb["test_list_lines"]
    assert {k: v["crc32"] for k, v in lists.items()} == ycb["list_crc32"]


def test_linemod_objects_agree(constants: Any) -> None:
    linemod = constants["linemod"]
    assert resource("linemod")["models_info_mm"] == linemod["models_info_mm"]
    assert resource("linemod")["objects"] == linemod["obj_dict"]
    for name, number in linemod["obj_dict"].items():
        objects = linemod_objects(name)
        assert objects.numbers == (number,)
        assert (1 in objects.symmetric) == (number in linemod["sym_cls_ids"])
        for field in ("keypoints", "corners"):
            expected = np.array(linemod[field][name], np.float32)
            np.testing.assert_array_equal(getattr(objects, field)[0], expected)


def test_cameras_agree(constants: Any) -> None:
    expected = constants["intrinsics"]
    for key in ("K1", "K2"):
        np.testing.assert_array_equal(resource("ycb")["intrinsics"][key], expected[f"ycb_{key}"])
    for key in ("linemod", "blender"):
        np.testing.assert_array_equal(resource("linemod")["intrinsics"][key], expected[key])
