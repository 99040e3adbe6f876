"""Recorded frames and meshes of the real datasets."""

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import cKDTree

from ffreid.pose.data.batch import Sample
from ffreid.pose.data.dataset import EvalSet, TrainSet
from ffreid.pose.data.depth import fill_missing, normals_from_depth
from ffreid.pose.data.linemod import LinemodReader
from ffreid.pose.data.meshes import read_linemod_mesh, read_xyz_meshes
from ffreid.pose.objects import linemod_objects, ycb_objects
from tests.pose.realdata import real_folder

CAMERA = np.array([[1066.778, 0, 312.9869], [0, 1067.487, 241.3109], [0, 0, 1]])
APE = linemod_objects("ape")


@pytest.fixture
def reader() -> LinemodReader:
    return LinemodReader(real_folder("Linemod_preprocessed"), APE)


@pytest.mark.parametrize("which", ["real_train_names", "test_names"])
def test_the_measured_points_of_an_ape_lie_on_its_mesh(reader: LinemodReader, which: str) -> None:
    sample = EvalSet(reader, APE, names=getattr(reader, which), points=12800, seed=0)[0]
    assert isinstance(sample, Sample)
    is_ape = sample.targets.labels == 1
    assert is_ape.sum() > 50
    pose = sample.gt.camera_from_object[0]
    cloud = sample.inputs.features[:3].T[is_ape].numpy()
    in_object = (cloud - pose[:, 3]) @ pose[:, :3]
    gaps, _ = cKDTree(read_linemod_mesh(reader.folder, 1)).query(in_object)
    assert np.median(gaps) < 0.01


def test_linemod_meshes_and_training_samples(reader: LinemodReader) -> None:
    vertices = read_linemod_mesh(reader.folder, 1)
    assert len(vertices) == 5841
    np.testing.assert_allclose(np.ptp(vertices, axis=0), np.ptp(APE.corners[0], axis=0), atol=0.001)
    sample = TrainSet(reader, APE, points=12800, length=1, seed=0)[0, 0]
    assert sample.gt.name == reader.real_train_names[0]
    assert (sample.targets.labels == 1).any()


def test_ycb_meshes_are_as_large_as_their_corners() -> None:
    objects = ycb_objects()
    meshes = read_xyz_meshes(real_folder("ycbv"), objects)
    for class_id, points in meshes.items():
        corners = np.ptp(objects.corners[class_id - 1], axis=0)
        np.testing.assert_allclose(np.ptp(points, axis=0), corners, atol=0.005)


def test_depth_of_a_table_is_filled_and_has_normals_towards_the_camera() -> None:
    path = real_folder("rgbd_frames") / "000001-depth.png"
    depth = (np.asarray(Image.open(path)) / 10000).astype(np.float32)  # metres
    filled = fill_missing(depth, 1.0)
    measured = (depth > 0.1) & (depth < 2.9)
    assert (filled > 0).mean() > (depth > 0).mean() + 0.05
    assert np.median(np.abs(filled - depth)[measured]) < 0.01
    normals = normals_from_depth((depth * 1000).astype(np.uint16), CAMERA[0, 0], CAMERA[1, 1])
    assert (normals[..., 2] <= 0).all()
    inside = (slice(5, -6), slice(5, -6))
    measured = (depth > 0.1) & (depth < 1.9)
    assert (normals[..., 2][inside][measured[inside]] < -0.05).mean() > 0.9
