"""The raw score falls with every kind of evidence that is lacking, and ranks poses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ffreid.pose.confidence import Evidence, visible, weigh, weigh_all
from ffreid.pose.data.depth import back_project
from ffreid.pose.metrics import transform
from ffreid.pose.toy.dataset import toy_meshes, toy_object_models
from ffreid.pose.voting.frame import ObjectPose, model_points
from tests.pose.own.makers import own_frame

FRAME, OBJECTS, MESHES = own_frame(), toy_object_models("toy-pose"), toy_meshes()
POINTS = back_project(FRAME.depth / np.float32(FRAME.depth_scale), FRAME.intrinsics)
POINTS = POINTS[FRAME.depth > 0]


def true_pose(index: int = 0) -> ObjectPose:
    class_id, pose = int(FRAME.class_ids[index]), FRAME.camera_from_object[index].astype(np.float64)
    keypoints = transform(pose, model_points(OBJECTS, class_id).numpy())
    return ObjectPose(class_id, pose, keypoints, solved=True, votes=200)


def evidence(pose: ObjectPose, labelled: int = 200, mesh: bool = True) -> Evidence:
    vertices = MESHES[pose.class_id] if mesh else None
    return weigh(
        pose,
        OBJECTS,
        points=POINTS,
        labelled=labelled,
        intrinsics=FRAME.intrinsics.astype(np.float64),
        vertices=vertices,
    )


def test_a_true_pose_has_a_high_score() -> None:
    found = [evidence(true_pose(index)) for index in range(len(FRAME.class_ids))]
    for each in found:
        assert each.fit == pytest.approx(1)
        assert each.depth is not None
    assert np.median([each.score for each in found]) > 0.8


def test_lacking_evidence_lowers_the_score() -> None:
    pose = true_pose()
    moved = pose.camera_from_object.copy()
    moved[2, 3] += 0.08
    shifted = replace(
        pose, camera_from_object=moved, keypoints=pose.keypoints + np.array([0, 0, 0.08])
    )
    generator = np.random.default_rng(0)
    noisy = replace(pose, keypoints=pose.keypoints + generator.normal(0, 0.01, (9, 3)))
    best = evidence(pose)
    assert evidence(replace(pose, votes=10), labelled=10).support < best.support
    assert evidence(pose, labelled=400).inliers == pytest.approx(0.5)
    assert evidence(noisy).fit < 0.8
    depth = evidence(shifted).depth
    assert depth is not None
    assert best.depth is not None
    assert depth < 0.3 < best.depth
    for worse in (evidence(noisy), evidence(shifted), evidence(pose, labelled=400)):
        assert worse.score < best.score


def test_without_a_mesh_depth_says_nothing() -> None:
    found = evidence(true_pose(), mesh=False)
    assert found.depth is None
    assert 0 < found.score <= 1


def test_an_unsolved_pose_has_the_lowest_score() -> None:
    pose = replace(true_pose(), solved=False, votes=0)
    assert evidence(pose).score == pytest.approx(1e-3)


def test_only_the_side_towards_the_camera_is_visible() -> None:
    sphere = np.random.default_rng(0).normal(size=(4000, 3))
    sphere *= 0.1 / np.linalg.norm(sphere, axis=1, keepdims=True)
    pose = np.column_stack([np.eye(3), [0, 0, 1]])
    camera = np.array([[200.0, 0, 64], [0, 200, 48], [0, 0, 1]])
    seen = visible(pose, sphere, camera)
    assert len(seen) > 200
    assert (sphere[seen, 2] < 0.03).mean() > 0.9
    behind = np.column_stack([np.eye(3), [0, 0, -1]])
    assert not len(visible(behind, sphere, camera))


def test_points_of_a_class_count_for_the_nearest_of_its_poses() -> None:
    pose = true_pose()
    labels = np.zeros(len(POINTS), np.int64)
    shift = np.array([0.3, 0, 0])
    moved = pose.camera_from_object.copy()
    moved[:, 3] += shift
    second = replace(pose, camera_from_object=moved, keypoints=pose.keypoints + shift)
    near = np.argsort(np.linalg.norm(POINTS - pose.keypoints.mean(axis=0), axis=1))
    labels[near[:400]] = pose.class_id
    options: dict[str, Any] = {"points": POINTS, "labels": labels, "meshes": MESHES}
    camera = FRAME.intrinsics.astype(np.float64)
    (alone,) = weigh_all([pose], OBJECTS, intrinsics=camera, **options)
    both = weigh_all([pose, second], OBJECTS, intrinsics=camera, **options)
    assert alone.inliers == pytest.approx(0.5)
    assert both[0].inliers >= alone.inliers
    assert both[1].score < both[0].score
