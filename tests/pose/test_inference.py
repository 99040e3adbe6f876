"""From frames to scored poses."""

from pathlib import Path

import numpy as np
import torch

from ffreid.pose.data.batch import Sample, SkippedFrame, collate
from ffreid.pose.data.dataset import EvalSet
from ffreid.pose.data.meshes import read_xyz_meshes
from ffreid.pose.data.ycb import YcbReader
from ffreid.pose.inference import evaluate_frames, pose_rows
from ffreid.pose.toy.dataset import toy_object_models
from tests.makers import toy_folder

NAMES = ("data/0048/000001", "data/0048/000002")


def test_poses_from_true_offsets_and_a_skipped_frame(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path, frames=1, test_frames=2)
    objects = toy_object_models("toy-pose")
    reader = YcbReader(folder, objects, intrinsics="meta")
    first, second = (EvalSet(reader, objects, names=NAMES, points=1024, seed=0)[i] for i in (0, 1))
    assert isinstance(first, Sample)
    results = evaluate_frames(
        iter([(collate([first]), [SkippedFrame(second.gt, "too few points")])]),
        None,
        objects,
        read_xyz_meshes(folder, objects),
        {"relabel": True},
        device=torch.device("cpu"),
        keep_images=1,
    )
    skipped, sampled = results
    # A small object may have none of the 1,024 points.
    detected = [score for score in sampled.scores if score.detected]
    assert len(detected) >= max(len(sampled.scores) - 1, 1)
    assert max(score.add for score in detected) < 1e-3
    assert (skipped.gt.name, skipped.skipped) == (NAMES[1], "too few points")
    assert len(skipped.scores) == len(skipped.gt.class_ids) > 0
    assert not any(score.detected for score in skipped.scores)
    assert sampled.rgb is not None and skipped.rgb is None
    rows = pose_rows(results, objects)
    assert {row["frame"] for row in rows} == {NAMES[0]}
    assert {row["class"] for row in rows} <= set(objects.names)
    assert all(np.shape(row["camera_from_object"]) == (3, 4) for row in rows)
