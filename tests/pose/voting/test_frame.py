"""From the votes of a frame to poses; the rigid fit."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ffreid.errors import UserError
from ffreid.pose.objects import linemod_objects, ycb_objects
from ffreid.pose.voting.frame import (
    MODES,
    ObjectPose,
    best_fit_transform,
    frame_poses,
    model_points,
)

OBJECTS = ycb_objects()
Votes = tuple[Tensor, Tensor, Tensor, Tensor]


def _frame(class_ids: list[int], count: int = 40, noise: float = 0.001) -> Votes:
    """Objects without rotation, 30 cm apart, whose points all vote nearly right."""
    generator = torch.Generator().manual_seed(0)
    parts: list[Votes] = []
    for index, class_id in enumerate(class_ids):
        centre = centre_of(index)
        points = centre + (torch.rand(count, 3, generator=generator) - 0.5) * 0.05
        target = model_points(OBJECTS, class_id)[:, None] + centre
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


def centre_of(index: int) -> Tensor:
    return torch.tensor([0.3 * index, 0.0, 0.8])


def _assert_at(pose: ObjectPose, index: int, near: float = 2e-3) -> None:
    np.testing.assert_allclose(pose.camera_from_object[:, 3], centre_of(index), atol=near)
    np.testing.assert_allclose(pose.camera_from_object[:, :3], np.eye(3), atol=0.05)


@pytest.mark.parametrize("mode", MODES)
def test_every_class_has_a_pose_in_order_of_class(mode: str) -> None:
    points, labels, centres, keypoints = _frame([9, 2])
    poses = frame_poses(points, labels, centres, keypoints, OBJECTS, mode=mode)
    assert [pose.class_id for pose in poses] == [2, 9]
    _assert_at(poses[0], 1)
    _assert_at(poses[1], 0)
    assert [(pose.solved, pose.votes) for pose in poses] == [(True, 40)] * 2
    without_axis = frame_poses(points, labels, centres[0], keypoints, OBJECTS, mode=mode)
    np.testing.assert_array_equal(without_axis[0].keypoints, poses[0].keypoints)
    empty = torch.zeros_like(labels)
    assert frame_poses(points, empty, centres, keypoints, OBJECTS, mode=mode) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("count", "options", "votes", "near"),
    [
        (40, {"use_centre": False}, 40, 2e-3),
        (100, {"max_votes": 30}, 30, 2e-3),
        (1, {}, 1, 5e-3),
    ],
)
def test_a_pose_of_fewer_votes(
    count: int, options: dict[str, Any], votes: int, near: float, mode: str
) -> None:
    (pose,) = frame_poses(*_frame([2], count=count), OBJECTS, mode=mode, **options)
    assert (pose.solved, pose.votes) == (True, votes)
    assert len(pose.keypoints) == 8 + options.get("use_centre", True)
    _assert_at(pose, 0, near)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("options", "votes"),
    [
        ({}, [40, 40]),
        ({"relabel": False}, [32, 40]),
        ({"relabel": False, "filter_clusters": False}, [32, 48]),
    ],
)
def test_wrongly_labelled_points_are_relabelled_or_filtered(
    options: dict[str, Any], votes: list[int], mode: str
) -> None:
    points, labels, centres, keypoints = _frame([2, 5])
    labels[:8] = 5
    poses = frame_poses(points, labels, centres, keypoints, OBJECTS, mode=mode, **options)
    assert [pose.votes for pose in poses] == votes


@pytest.mark.parametrize("mode", MODES)
def test_a_class_without_points_after_relabelling_is_unsolved(mode: str) -> None:
    # Two points vote for the same centre, which is that of the first class.
    points, zeros = torch.full((2, 3), 0.8), torch.zeros(9, 2, 3)
    labels = torch.tensor([2, 19])
    solved, unsolved = frame_poses(points, labels, zeros[:1], zeros[1:], OBJECTS, mode=mode)
    assert (solved.class_id, solved.solved, solved.votes) == (2, True, 2)
    assert (unsolved.class_id, unsolved.solved, unsolved.votes) == (19, False, 0)
    np.testing.assert_array_equal(unsolved.camera_from_object, np.eye(4)[:3])
    np.testing.assert_array_equal(unsolved.keypoints, np.zeros((9, 3)))


@pytest.mark.parametrize("mode", MODES)
def test_the_only_object_of_a_dataset_is_reported_unsolved_without_points(mode: str) -> None:
    points, labels, centres, keypoints = _frame([2])
    objects, empty = linemod_objects("ape"), torch.zeros_like(labels)
    options = dict[str, Any](relabel=False, mode=mode)
    (pose,) = frame_poses(points, empty, centres, keypoints, objects, **options)
    assert (pose.class_id, pose.solved) == (1, False)


@pytest.mark.parametrize("which", [2, 3])
def test_offsets_that_are_not_finite_are_refused(which: int) -> None:
    frame = _frame([2])
    frame[which][0, 0, 0] = float("nan")
    with pytest.raises(UserError, match="NaN"):
        frame_poses(*frame, OBJECTS)


@pytest.mark.parametrize(("radius", "votes"), [(0.07, 21), (0.06, 20)])
def test_relabelling_reaches_four_fifths_of_the_radius(radius: float, votes: int) -> None:
    # Class 5 votes 1 m away, except for one point that votes 5 cm from class 2.
    votes_for = torch.zeros(40, 3)
    votes_for[20:] = 1.0
    votes_for[20] = torch.tensor([0.05, 0.0, 0.0])
    labels = torch.tensor([2] * 20 + [5] * 20)
    radii = np.full(len(OBJECTS), radius, np.float32)
    objects = dataclasses.replace(OBJECTS, radii=radii)
    offsets = torch.zeros(9, 40, 3)
    poses = frame_poses(votes_for, labels, offsets[:1], offsets[1:], objects, filter_clusters=False)
    assert [pose.votes for pose in poses] == [votes, 40 - votes]


def _points(seed: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


def test_a_batch_of_exact_motions_is_recovered() -> None:
    rotations = Rotation.random(4, rng=np.random.default_rng(0)).as_matrix()
    shifts, source = _points(1, (4, 3)), _points(2, (4, 9, 3))
    target = source @ rotations.transpose(0, 2, 1) + shifts[:, None]
    result = best_fit_transform(source, target)
    np.testing.assert_allclose(result[..., :3], rotations, atol=1e-12)
    np.testing.assert_allclose(result[..., 3], shifts, atol=1e-12)


@pytest.mark.parametrize("flatten", [False, True])
def test_a_mirror_image_gets_a_rotation_still(flatten: bool) -> None:
    source = _points(3, (8, 3)) * ([1, 1, 0] if flatten else [1, 1, 1])
    rotation = best_fit_transform(source, source * [-1, 1, 1])[:, :3]
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


def test_recorded_fit_of_four_points() -> None:
    source = [
        [0.0330143172, -0.0103818541, 0.0919007101],
        [-0.0237422181, -0.0074528943, -0.0625768503],
        [-0.0052943741, -0.1087856138, -0.0494741742],
        [0.0487340528, -0.0028253313, -0.0914944395],
    ]
    target = [
        [-0.1537550130, 0.0715754042, 0.8823163000],
        [-0.1438770049, -0.0936207611, 0.8925491660],
        [-0.0467621984, -0.0687690358, 0.8957093208],
        [-0.1438158993, -0.0985772008, 0.8132734572],
    ]
    expected = [
        [0.1172896218, -0.9879263654, -0.1012158145, -0.1583939220],
        [0.2953506210, -0.0626069496, 0.9533353977, -0.0266573385],
        [-0.9481619879, -0.1417105019, 0.2844415201, 0.8868100344],
    ]
    result = best_fit_transform(np.array(source), np.array(target))
    np.testing.assert_allclose(result, expected, atol=1e-7)
