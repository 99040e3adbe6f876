"""Every cluster of centre votes with enough support gives a pose; single objects keep theirs."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ffreid.pose.toy.dataset import toy_meshes, toy_object_models
from ffreid.pose.voting.frame import frame_poses
from ffreid.pose.voting.instances import instance_poses

OBJECTS, MESHES = toy_object_models("toy-pose"), toy_meshes()


def scene(
    places: list[tuple[int, float]], counts: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points, labels and true offsets of objects (class, x in metres) with so many points."""
    points, labels, centres, keypoints = [], [], [], []
    generator = np.random.default_rng(0)
    for (class_id, x), count in zip(places, counts, strict=True):
        shift = np.array([x, 0, 1])
        chosen = generator.choice(len(MESHES[class_id]), count)
        own = MESHES[class_id][chosen] + shift
        points.append(own)
        labels.append(np.full(count, class_id))
        centres.append(own - OBJECTS.centres[class_id - 1] - shift)
        keypoints.append(own[None] - (OBJECTS.keypoints[class_id - 1] + shift)[:, None])
    parts = (np.concatenate(points), np.concatenate(labels), np.concatenate(centres))
    first, second, third = (torch.from_numpy(part) for part in parts)
    return (
        first.float(),
        second,
        third.float(),
        torch.from_numpy(np.concatenate(keypoints, 1)).float(),
    )


@pytest.mark.parametrize(
    ("places", "counts", "found"),
    [
        ([(1, -0.3), (1, 0.3)], [300, 200], [(1, -0.3), (1, 0.3)]),
        ([(1, -0.3), (1, 0.0), (1, 0.3)], [300, 200, 100], [(1, -0.3), (1, 0.0), (1, 0.3)]),
        (
            [(1, -0.05), (1, 0.05)],
            [300, 200],
            [(1, -0.05), (1, 0.05)],
        ),  # closer than they are large
        ([(1, -0.3), (2, 0.3), (2, 0.0)], [300, 200, 100], [(1, -0.3), (2, 0.3), (2, 0.0)]),
        ([(1, -0.3), (1, 0.3)], [300, 20], [(1, -0.3)]),  # too few points
        ([(1, -0.3), (1, 0.3)], [300, 50], [(1, -0.3)]),  # too small a share
        ([(1, -0.3)], [5], [(1, -0.3)]),  # the only one needs no support
        ([], [], []),
    ],
)
def test_instances_are_told_apart(
    places: list[tuple[int, float]], counts: list[int], found: list[tuple[int, float]]
) -> None:
    if places:
        tensors = scene(places, counts)
    else:
        tensors = (
            torch.zeros(9, 3),
            torch.zeros(9).long(),
            torch.zeros(9, 3),
            torch.zeros(8, 9, 3),
        )
    poses = instance_poses(*tensors, OBJECTS, relabel=True)
    assert [pose.class_id for pose in poses] == [class_id for class_id, _ in found]
    for pose, (_, x) in zip(poses, found, strict=True):
        expected = np.column_stack([np.eye(3), [x, 0, 1]])
        np.testing.assert_allclose(pose.camera_from_object, expected, atol=2e-3)


def test_one_object_of_each_class_has_the_pose_that_it_has_without() -> None:
    tensors = scene([(1, -0.3), (2, 0.3)], [300, 200])
    one, other = (
        [(pose.class_id, pose.votes, pose.camera_from_object.tolist()) for pose in poses]
        for poses in (instance_poses(*tensors, OBJECTS), frame_poses(*tensors, OBJECTS))
    )
    assert one == other


def test_votes_of_an_untrained_network_far_away_give_a_pose() -> None:
    points, labels, centres, keypoints = scene([(1, 0)], [40])
    scattered = 1e6 * torch.randn(centres.shape, generator=torch.Generator().manual_seed(0))
    poses = instance_poses(points, labels, scattered, keypoints, OBJECTS)
    assert len(poses) == 1
