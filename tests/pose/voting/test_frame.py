"""What a frame's votes must lead to."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from ffreid.errors import UserError
from ffreid.pose.objects import linemod_objects, ycb_objects
from ffreid.pose.voting.frame import ObjectPose, frame_poses, model_points

OBJECTS = ycb_objects()
Votes = tuple[Tensor, Tensor, Tensor, Tensor]


def _frame(class_ids: list[int], count: int = 40, noise: float = 0.001) -> Votes:
    """Objects without rotation, 30 cm apart, whose points all vote nearly right."""
    generator = torch.Generator().manual_seed(0)
    parts: list[Votes] = []
    for index, class_id in enumerate(class_ids):
        place = _place(index)
        points = place + (torch.rand(count, 3, generator=generator) - 0.5) * 0.05
        target = model_points(OBJECTS, class_id)[:, None] + place
        offsets = points - target
        offsets += torch.randn(*offsets.shape, generator=generator) * noise
        labels = torch.full((count,), class_id)
        parts.append((points, labels, offsets[-1:], offsets[:-1]))
    return (
        torch.cat([part[0] for part in parts]),
        torch.cat([part[1] for part in parts]),
        torch.cat([part[2] for part in parts], dim=1),
        torch.cat([part[3] for part in parts], dim=1),
    )


def _place(index: int) -> Tensor:
    return torch.tensor([0.3 * index, 0.0, 0.8])


def _assert_at(pose: ObjectPose, index: int, near: float = 2e-3) -> None:
    expected = np.column_stack([np.eye(3), _place(index).numpy()])
    np.testing.assert_allclose(pose.camera_from_object[:, 3], expected[:, 3], atol=near)
    np.testing.assert_allclose(pose.camera_from_object[:, :3], np.eye(3), atol=0.05)


def test_every_class_gets_its_pose_in_order_of_class() -> None:
    poses = frame_poses(*_frame([9, 2]), OBJECTS)
    assert [pose.class_id for pose in poses] == [2, 9]
    _assert_at(poses[0], 1)
    _assert_at(poses[1], 0)
    assert [(pose.solved, pose.votes) for pose in poses] == [(True, 40)] * 2


def test_centre_offsets_may_come_without_their_first_axis() -> None:
    points, labels, centres, keypoints = _frame([4])
    with_axis = frame_poses(points, labels, centres, keypoints, OBJECTS)
    without = frame_poses(points, labels, centres[0], keypoints, OBJECTS)
    np.testing.assert_array_equal(with_axis[0].keypoints, without[0].keypoints)


def test_without_the_centre_keypoints_alone_are_fitted() -> None:
    pose = frame_poses(*_frame([3]), OBJECTS, use_centre=False)[0]
    assert pose.keypoints.shape == (8, 3)
    _assert_at(pose, 0)


def test_points_near_another_objects_centre_change_sides() -> None:
    points, labels, centres, keypoints = _frame([2, 5])
    labels[:8] = 5
    poses = frame_poses(points, labels, centres, keypoints, OBJECTS)
    assert [pose.votes for pose in poses] == [40, 40]


def test_without_relabelling_strays_are_filtered_by_the_centre() -> None:
    points, labels, centres, keypoints = _frame([2, 5])
    labels[:8] = 5
    poses = frame_poses(points, labels, centres, keypoints, OBJECTS, relabel=False)
    assert [pose.votes for pose in poses] == [32, 40]


def test_without_filter_all_points_of_a_class_vote() -> None:
    frame = _frame([2, 5])
    frame[1][:8] = 5
    poses = frame_poses(*frame, OBJECTS, relabel=False, filter_clusters=False)
    assert [pose.votes for pose in poses] == [32, 48]


def test_a_class_emptied_by_relabelling_is_the_identity_and_unsolved() -> None:
    # Two points vote for the same centre: it is the first class's, the other has none left.
    points, zeros = torch.full((2, 3), 0.8), torch.zeros(9, 2, 3)
    kept, lost = frame_poses(points, torch.tensor([2, 19]), zeros[:1], zeros[1:], OBJECTS)
    assert (kept.class_id, kept.solved, kept.votes) == (2, True, 2)
    assert (lost.class_id, lost.solved, lost.votes) == (19, False, 0)
    np.testing.assert_array_equal(lost.camera_from_object, np.eye(4)[:3])
    np.testing.assert_array_equal(lost.keypoints, np.zeros((9, 3)))


def test_background_alone_gives_no_pose() -> None:
    points, labels, centres, keypoints = _frame([2])
    assert frame_poses(points, torch.zeros_like(labels), centres, keypoints, OBJECTS) == []


def test_a_set_of_one_object_is_reported_unsolved_without_points() -> None:
    points, labels, centres, keypoints = _frame([2])
    objects, empty = linemod_objects("ape"), torch.zeros_like(labels)
    (pose,) = frame_poses(points, empty, centres, keypoints, objects, relabel=False)
    assert (pose.class_id, pose.solved) == (1, False)


def test_a_cap_on_votes_takes_them_evenly_and_finds_the_same_place() -> None:
    pose = frame_poses(*_frame([2], count=100), OBJECTS, max_votes=30)[0]
    assert pose.votes == 30
    _assert_at(pose, 0)


def test_a_single_point_still_gives_a_pose() -> None:
    pose = frame_poses(*_frame([2], count=1), OBJECTS)[0]
    assert pose.solved and pose.votes == 1
    _assert_at(pose, 0, near=5e-3)


@pytest.mark.parametrize("which", [2, 3])
def test_offsets_that_are_not_finite_are_refused(which: int) -> None:
    frame = _frame([2])
    frame[which][0, 0, 0] = float("nan")
    with pytest.raises(UserError, match="NaN"):
        frame_poses(*frame, OBJECTS)


@pytest.mark.parametrize(("radius", "votes"), [(0.07, 21), (0.06, 20)])
def test_relabelling_reaches_four_fifths_of_the_radius(radius: float, votes: int) -> None:
    # Class 5 votes 1 m away, but for one stray that votes 5 cm beside class 2.
    votes_for = torch.zeros(40, 3)
    votes_for[20:] = 1.0
    votes_for[20] = torch.tensor([0.05, 0.0, 0.0])
    labels = torch.tensor([2] * 20 + [5] * 20)
    radii = np.full(len(OBJECTS), radius, np.float32)
    objects = dataclasses.replace(OBJECTS, radii=radii)
    offsets = torch.zeros(9, 40, 3)
    poses = frame_poses(votes_for, labels, offsets[:1], offsets[1:], objects, filter_clusters=False)
    assert [pose.votes for pose in poses] == [votes, 40 - votes]
