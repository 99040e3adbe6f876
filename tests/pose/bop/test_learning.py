"""A box and a cylinder without texture are learnt from canonical targets, and not without them."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

pytest.importorskip("trimesh")

import trimesh

from ffreid.pose.bop.errors import canonical_pose, symmetries
from ffreid.pose.bop.rasterizer import render_depth
from ffreid.pose.keypoints import farthest_points

SIDE, DISTANCE, UNIT = 20, 500.0, 50.0
"""Pixels, mm, mm: what the regressor's numbers are in."""
CAMERA = np.array([[100.0, 0, SIDE / 2], [0, 100, SIDE / 2], [0, 0, 1]])
TURNS = [np.diag(d).astype(float).ravel().tolist() for d in ([1, -1, -1, 1], [-1, 1, -1, 1])]
TURNS += [np.diag([-1.0, -1, 1, 1]).ravel().tolist()]
OBJECTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "box": (trimesh.creation.box([80.0, 50, 30]), {"symmetries_discrete": TURNS}),
    "cylinder": (
        trimesh.creation.cylinder(25.0, 80, sections=24),
        {
            "symmetries_discrete": TURNS[:1],
            "symmetries_continuous": [{"axis": [0, 0, 1], "offset": [0, 0, 0]}],
        },
    ),
}


def views(mesh: Any, count: int, seed: int) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """Depth images (N, H W), beside the object 2, and poses (N, 3, 4), turned at random."""
    vertices, faces = np.asarray(mesh.vertices, float), np.asarray(mesh.faces)
    images, poses = [], []
    for turn in Rotation.random(count, random_state=seed).as_matrix():
        pose = np.column_stack([turn, [0, 0, DISTANCE]])
        depth = render_depth(vertices @ turn.T + pose[:, 3], faces, CAMERA, (SIDE, SIDE))
        images.append(np.where(depth > 0, (depth - DISTANCE) / UNIT, 2.0).ravel())
        poses.append(pose)
    return torch.tensor(np.array(images), dtype=torch.float32), np.array(poses)


def keypoint_error(name: str, *, canonical: bool) -> float:
    """Median error, mm, of learnt keypoints on new views, of the best equivalent pose."""
    mesh, info = OBJECTS[name]
    group, vertices = symmetries(info), np.asarray(mesh.vertices, float)
    keypoints = vertices[farthest_points(vertices, 8)]
    images, poses = views(mesh, 600, 0)
    chosen = [canonical_pose(pose, group) for pose in poses] if canonical else poses
    targets = np.array([keypoints @ pose[:, :3].T / UNIT for pose in chosen])
    goal = torch.tensor(targets.reshape(len(poses), -1), dtype=torch.float32)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(SIDE**2, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 24)
    )
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        rows = torch.randint(len(images), (64,), generator=generator)
        loss = (net(images[rows]) - goal[rows]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    new_images, new_poses = views(mesh, 100, 1)
    with torch.no_grad():
        found = net(new_images).reshape(-1, 8, 3).numpy() * UNIT
    equal = keypoints @ group[:, :, :3].swapaxes(1, 2) + group[:, None, :, 3]  # (S, 8, 3)
    errors = [
        np.linalg.norm(equal @ pose[:, :3].T - points, axis=2).mean(axis=1).min()
        for pose, points in zip(new_poses, found, strict=True)
    ]
    return float(np.median(errors))


@pytest.mark.parametrize("name", list(OBJECTS))
def test_symmetric_objects_are_learnt_from_canonical_targets_only(name: str) -> None:
    with_them, without = (keypoint_error(name, canonical=on) for on in (True, False))
    assert with_them < 12
    assert without > 25  # the mean of all equivalent poses: half the object's size
