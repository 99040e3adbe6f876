"""From frames to scored poses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ffreid.pose.data.batch import SkippedFrame, collate
from ffreid.pose.data.dataset import EvalSet
from ffreid.pose.data.meshes import read_xyz_meshes
from ffreid.pose.data.ycb import YcbReader
from ffreid.pose.inference import FrameResult, evaluate_frames, pose_rows
from ffreid.pose.objects import ObjectModels
from ffreid.pose.toy.dataset import toy_object_models
from tests.makers import toy_folder

NAMES = ("data/0048/000001", "data/0048/000002")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ObjectModels]:
    folder = toy_folder(tmp_path_factory.mktemp("estimate"), frames=1, test_frames=2)
    return folder, toy_object_models("toy-pose")


@pytest.fixture(scope="module")
def results(scene: tuple[Path, ObjectModels]) -> list[FrameResult]:
    """The first frame sampled, the second skipped; true labels and offsets vote."""
    folder, objects = scene
    reader = YcbReader(folder, objects, intrinsics="meta")
    samples = [EvalSet(reader, objects, names=NAMES, points=1024, seed=0)[i] for i in range(2)]
    assert not any(isinstance(sample, SkippedFrame) for sample in samples)
    sampled, left = samples
    items = [(collate([sampled]), [SkippedFrame(left.gt, "too few points")])]  # type: ignore[list-item]
    return evaluate_frames(
        iter(items),
        None,
        objects,
        read_xyz_meshes(folder, objects),
        {"relabel": True},
        device=torch.device("cpu"),
        keep_images=1,
    )


def test_true_offsets_give_true_poses_and_objects_of_skipped_frames_are_missed(
    results: list[FrameResult],
) -> None:
    skipped, sampled = results
    # A small object may have none of the 1,024 points.
    detected = [score for score in sampled.scores if score.detected]
    assert len(detected) >= max(len(sampled.scores) - 1, 1)
    assert max(score.add for score in detected) < 1e-3
    assert (skipped.gt.name, skipped.skipped) == (NAMES[1], "too few points")
    assert len(skipped.scores) == len(skipped.gt.class_ids) > 0
    assert not any(score.detected for score in skipped.scores)
    assert sampled.rgb is not None
    assert skipped.rgb is None


def test_poses_are_listed_by_frame_and_class(
    results: list[FrameResult], scene: tuple[Path, ObjectModels]
) -> None:
    rows = pose_rows(results, scene[1])
    assert {row["frame"] for row in rows} == {NAMES[0]}
    assert {row["class"] for row in rows} <= set(scene[1].names)
    assert all(np.shape(row["camera_from_object"]) == (3, 4) for row in rows)
