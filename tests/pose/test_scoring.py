"""From poses to scores, and from scores to tables."""

import numpy as np
import numpy.typing as npt
import pytest

from ffreid.pose.data.batch import GroundTruth
from ffreid.pose.metrics import auc
from ffreid.pose.objects import linemod_objects, ycb_objects
from ffreid.pose.resources import resource
from ffreid.pose.results_table import results_table
from ffreid.pose.scoring import InstanceScore, diameters, mesh_trees, score_frame, summarise
from ffreid.pose.voting.frame import ObjectPose

OBJECTS = ycb_objects()
CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32) * 0.1
POSE = np.column_stack([np.eye(3), [0.0, 0.0, 0.8]])


def _gt(*class_ids: int) -> GroundTruth:
    count = len(class_ids)
    return GroundTruth(
        index=4,
        name="data/0048/000001",
        class_ids=np.array(class_ids, np.int32),
        camera_from_object=np.repeat(POSE[None], count, 0).astype(np.float32),
        keypoints_camera=np.tile(np.array([0, 0, 1], np.float32), (count, 8, 1)),
        centres_camera=np.zeros((count, 3), np.float32),
        intrinsics=np.eye(3),
    )


def _pose(class_id: int, shift: float = 0.0, solved: bool = True) -> ObjectPose:
    moved = POSE + np.column_stack([np.zeros((3, 3)), [shift, 0, 0]])
    return ObjectPose(class_id, moved, np.tile([0, 0, 1.5], (9, 1)), solved, 10)


def _score(
    class_id: int, error: float, detected: bool = True, solved: bool = True
) -> InstanceScore:
    return InstanceScore(0, "f", class_id, detected, solved, error, error / 2, error)


def test_the_first_pose_of_a_class_is_scored_with_its_first_k_keypoints() -> None:
    poses = [_pose(5), _pose(3, 0.03), _pose(3, 0.05)]
    (score,) = score_frame(_gt(3), poses, OBJECTS, {3: CUBE})
    assert (score.index, score.frame, score.class_id) == (4, "data/0048/000001", 3)
    assert score.detected and score.solved
    assert score.add == pytest.approx(0.03, abs=1e-7)
    assert score.keypoint_error == pytest.approx(0.5)


def test_missed_objects_are_scored_at_zeros_and_unsolved_ones_as_they_are() -> None:
    (score,) = score_frame(_gt(3), [], OBJECTS, {3: CUBE}, trees=mesh_trees({3: CUBE}))
    assert (score.detected, score.solved) == (False, False)
    expected = np.linalg.norm(CUBE + np.array([0, 0, 0.8]), axis=1).mean()
    assert (score.add, score.adds) == pytest.approx((expected, expected), abs=1e-6)
    assert score.keypoint_error == pytest.approx(1.0)
    (score,) = score_frame(_gt(3), [_pose(3, solved=False)], OBJECTS, {3: CUBE})
    assert (score.detected, score.solved) == (True, False)
    assert score.add == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    ("points", "largest"),
    [
        (CUBE, 0.1 * np.sqrt(3)),
        (CUBE * [1, 1, 0], 0.1 * np.sqrt(2)),
        (CUBE @ [[1, 1, 0], [0, 0, 1], [0, 0, 0]], 0.1 * np.sqrt(3)),
        (CUBE * [1, 0, 0], 0.1),
        (CUBE[:1], 0.0),
        (CUBE[:2], 0.1),
    ],
    ids=["solid", "flat", "tilted plane", "line", "point", "pair"],
)
def test_diameter_is_the_datasets_or_the_largest_distance(
    points: npt.NDArray[np.floating], largest: float
) -> None:
    assert diameters(OBJECTS, {2: points})[2] == pytest.approx(largest, abs=1e-7)
    objects = linemod_objects("ape")
    assert objects.diameters is not None
    assert diameters(objects, {1: points}) == {1: objects.diameters[0]}


def test_summary_pools_and_averages_with_and_without_absent_classes() -> None:
    scores = [_score(1, 0.01), _score(1, 0.2), _score(13, 0.03)]
    summary = summarise(scores, OBJECTS, {1: 0.15, 13: 0.1})
    first, bowl = (summary["classes"][OBJECTS.name(c)] for c in (1, 13))
    assert summary["pooled"]["ADD_auc"] == pytest.approx(auc([0.01, 0.2, 0.03]))
    # The bowl is symmetric: ADD(-S) takes its ADD-S.
    assert (first["ADD(-S)_auc"], bowl["ADD(-S)_auc"]) == (first["ADD_auc"], bowl["ADD-S_auc"])
    assert (bowl["ADD<0.1d"], bowl["ADD-S<2cm"]) == (0.0, 100.0)
    assert (first["ADD<0.1d"], first["ADD<0.05d"]) == (50.0, 0.0)
    total = first["ADD_auc"] + bowl["ADD_auc"]
    assert summary["mean_of_present_classes"]["ADD_auc"] == pytest.approx(total / 2)
    assert summary["mean_of_all_classes"]["ADD_auc"] == pytest.approx(total / 21)


def test_summary_counts_missed_and_unsolved_objects() -> None:
    scores = [_score(1, 0.01), _score(1, 0.5, solved=False), _score(1, 0.9, False, False)]
    row = summarise(scores, OBJECTS, {1: 0.15})["pooled"]
    assert (row["instances"], row["missed"], row["unsolved"]) == (3, 1, 1)
    assert row["keypoint_error_m"] == pytest.approx(0.47)
    assert row["keypoint_error_detected_m"] == pytest.approx(0.01)
    empty = summarise([], OBJECTS, {})["pooled"]
    assert (empty["instances"], empty["keypoint_error_m"]) == (0, None)


def test_table_has_published_numbers_next_to_ours() -> None:
    published = resource("published")["ycb"]
    summary = summarise([_score(1, 0.01)], OBJECTS, {1: 0.15})
    columns, rows = results_table(summary, published)
    titles = [row[0] for row in rows]
    expected = columns.index("FFB6D ADD-S AUC")
    assert titles[:2] == ["002_master_chef_can", "all instances"]
    assert {len(row) for row in rows} == {len(columns)}
    assert rows[0][expected] == published["per_object"]["002_master_chef_can"]["ADD-S_auc"]
    assert rows[1][expected] == published["ALL_pooled"]["ADD-S_auc"]
    # Over one class, ours is not the mean that was published.
    assert rows[2][expected] is None

    columns, rows = results_table(summary)
    assert not any("FFB6D" in column for column in columns)
    assert {len(row) for row in rows} == {len(columns)}

    published = resource("published")["linemod"]
    summary = summarise([_score(1, 0.01)], linemod_objects("ape"), {1: 0.1})
    columns, rows = results_table(summary, published)
    assert rows[0][columns.index("FFB6D ADD(-S)<0.1d")] == published["per_object"]["ape"]
