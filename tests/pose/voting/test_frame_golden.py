"""Poses of complete frames against those recorded from the original."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ffreid.pose.objects import linemod_objects, ycb_objects
from ffreid.pose.resources import resource
from ffreid.pose.voting.frame import frame_poses
from tests.golden import arrays, facts, recordings

pytestmark = pytest.mark.golden
POSES = recordings("ffb6d", "poses*.npz")
TAGS = {"ctr_flt": (True, True), "ctr_noflt": (True, False), "noctr_noflt": (False, False)}


def _votes(data: dict[str, npt.NDArray[Any]], frame: str) -> Any:
    keys = ("pcld", "mask", "ctr_of", "kp_of")
    return [torch.from_numpy(data[f"{frame}/{key}"]) for key in keys]


@pytest.mark.parametrize("stem", POSES)
@pytest.mark.parametrize("tag", TAGS)
def test_ycb_frames(stem: str, tag: str) -> None:
    data, (use_centre, filtered) = arrays("ffb6d", stem), TAGS[tag]
    scenes = sorted(key.split("/")[0] for key in data if key.endswith(f"{tag}/poses"))
    assert scenes
    for scene in scenes:
        options = dict[str, Any](filter_clusters=filtered, relabel=filtered, use_centre=use_centre)
        points, labels, centre, offsets = _votes(data, scene)
        actual = frame_poses(points, labels, centre, offsets, ycb_objects(), **options)
        expected = f"{scene}/{tag}"
        assert [pose.class_id for pose in actual] == data[f"{expected}/pred_cls_ids"].tolist()
        for pose, matrix, keypoints in zip(
            actual, data[f"{expected}/poses"], data[f"{expected}/kps"], strict=True
        ):
            np.testing.assert_allclose(pose.keypoints, keypoints, atol=2e-4)
            np.testing.assert_allclose(pose.camera_from_object, matrix, atol=5e-4)


@pytest.mark.parametrize("stem", POSES)
@pytest.mark.parametrize("tag", ["flt", "noflt", "empty"])
def test_linemod_frames(stem: str, tag: str) -> None:
    data = arrays("ffb6d", stem)
    frames = sorted(key.split("/")[0] for key in data if key.endswith(f"/{tag}/pose"))
    assert frames
    names = {number: name for name, number in resource("linemod")["objects"].items()}
    objects = linemod_objects(names[facts("ffb6d", stem)["lm_obj_id"]])
    for frame in frames:
        points, labels, centre, keypoints = _votes(data, frame)
        labels = torch.zeros_like(labels) if tag == "empty" else labels
        options = dict[str, Any](filter_clusters=tag != "noflt", relabel=False)
        (pose,) = frame_poses(points, labels, centre, keypoints, objects, **options)
        assert pose.solved == (tag != "empty")
        expected = data[f"{frame}/{tag}/pose"][0]
        np.testing.assert_allclose(pose.camera_from_object, expected, atol=5e-4)
