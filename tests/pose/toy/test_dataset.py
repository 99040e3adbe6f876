"""The toy dataset: its layout, that labels, depth and poses agree, and that it is reproducible."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from ffreid.errors import UserError
from ffreid.pose.toy.dataset import ensure_toy, toy_object_models
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.toy.render import pixel_rays
from ffreid.pose.toy.scenes import toy_intrinsics
from tests.makers import toy_folder

SIZES = dict[str, Any](frames=2, test_frames=1, synthetic=1, height=48, width=64, seed=0)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_folder(tmp_path_factory.mktemp("toy"), frames=12, test_frames=2, synthetic=2)


def listed(folder: Path, part: str) -> list[str]:
    return (folder / f"dataset_config/{part}_data_list.txt").read_text().split()


def stored(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read(folder: Path, name: str, kind: str) -> npt.NDArray[Any]:
    image = cv2.imread(str(folder / f"{name}-{kind}.png"), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def meta(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = scipy.io.loadmat(folder / f"{name}-meta.mat")
    return content


def surface_distance(folder: Path, name: str) -> npt.NDArray[np.float64]:
    """Distance of each measured, labelled pixel from its object's surface along the ray."""
    labels, depth = read(folder, name, "label"), read(folder, name, "depth")
    facts = meta(folder, name)
    rays = pixel_rays(facts["intrinsic_matrix"], *labels.shape)
    points = rays * (depth / facts["factor_depth"][0, 0])[..., None]
    distances = []
    for index, class_id in enumerate(facts["cls_indexes"][:, 0]):
        pose = facts["poses"][:, :, index]
        mask = (labels == class_id) & (depth > 0)
        surface, towards = (points[mask] - pose[:, 3]) @ pose[:, :3], rays[mask] @ pose[:, :3]
        shape = toy_objects()[class_id - 1].shape
        distances.append(shape.intersect(surface - 0.3 * towards, towards) - 0.3)
    return np.concatenate(distances)


@pytest.mark.parametrize("class_id", range(1, 6))
def test_keypoints_and_mesh_points_are_on_the_surface(toy: Path, class_id: int) -> None:
    item = toy_objects()[class_id - 1]
    points = np.loadtxt(toy / f"models/{item.name}/points.xyz")
    keypoints = toy_object_models("toy-pose").keypoints[class_id - 1]
    assert points.shape == (800, 3)
    for surface in (points, keypoints.astype(np.float64)):
        normals = item.shape.normals(surface)
        # Farther away another part may be in between.
        distances = item.shape.intersect(surface + 1e-5 * normals, -normals)
        np.testing.assert_allclose(distances, 1e-5, atol=1e-6)
    apart = np.linalg.norm(keypoints[:, None] - keypoints, axis=-1) + np.eye(8)
    assert apart.min() > 0.02


def test_files_are_those_of_the_layout(toy: Path) -> None:
    names = listed(toy, "train") + listed(toy, "test")
    files = {str(path.relative_to(toy)) for path in toy.rglob("*-color.png")}
    assert {f"{name}-color.png" for name in names} == files
    assert len(names) == 16
    assert all(name.startswith("data/0048/") for name in listed(toy, "test"))
    assert [name for name in names if name.startswith("data_syn/")] == listed(toy, "train")[-2:]
    assert read(toy, names[0], "color").shape == (96, 128, 3)
    assert read(toy, names[0], "depth").dtype == np.uint16
    facts = meta(toy, names[0])
    count = len(facts["cls_indexes"])
    assert facts["cls_indexes"].shape == (count, 1)
    assert facts["poses"].shape == (3, 4, count)
    assert facts["factor_depth"].item() == 10000
    content = (toy / f"{names[0]}-meta.mat").read_bytes()
    assert content[:116].rstrip() == b"MATLAB 5.0 MAT-file"  # without a date


def test_the_camera_at_full_size_is_that_of_ycb_video() -> None:
    expected = [[1066.778, 0, 312.9869], [0, 1067.487, 241.3109], [0, 0, 1]]
    np.testing.assert_array_equal(toy_intrinsics(480, 640), expected)


def test_labels_and_poses_are_of_the_same_visible_objects(toy: Path) -> None:
    train = [meta(toy, name)["cls_indexes"][:, 0].tolist() for name in listed(toy, "train")]
    assert np.mean([len(ids) >= 3 for ids in train]) > 0.8
    assert {class_id for ids in train for class_id in ids} == {1, 2, 3, 4, 5}
    for name in listed(toy, "train") + listed(toy, "test"):
        labels, facts = read(toy, name, "label"), meta(toy, name)
        ids, counts = np.unique(labels[labels > 0], return_counts=True)
        np.testing.assert_array_equal(ids, facts["cls_indexes"][:, 0])
        assert counts.min() >= 0.003 * labels.size
        for pose in np.moveaxis(facts["poses"], -1, 0):
            np.testing.assert_allclose(pose[:, :3] @ pose[:, :3].T, np.eye(3), atol=1e-6)
            assert np.linalg.det(pose[:, :3]) > 0
            assert 0.35 < pose[2, 3] < 1.5


def test_measured_pixels_are_on_their_object_within_the_noise(toy: Path) -> None:
    for index in (0, 5, 11):
        distance = surface_distance(toy, listed(toy, "train")[index])
        assert len(distance) > 300
        assert np.abs(distance).max() < 0.02
        assert np.median(np.abs(distance)) < 0.002


def test_synthetic_frames_are_exact_objects_in_empty_space(toy: Path) -> None:
    name = listed(toy, "train")[-1]
    labels, depth = read(toy, name, "label"), read(toy, name, "depth")
    np.testing.assert_array_equal(depth > 0, labels > 0)
    assert not read(toy, name, "color")[labels == 0].any()
    assert np.abs(surface_distance(toy, name)).max() < 1e-4


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    data, again, other, smaller = (
        stored(ensure_toy(tmp_path / str(number), **SIZES | change))
        for number, change in enumerate(({}, {}, {"seed": 9}, {"frames": 1}))
    )
    assert data == again
    assert data.keys() == other.keys()
    assert data["data/0000/000001-color.png"] != other["data/0000/000001-color.png"]
    assert data["models/duck/points.xyz"] == other["models/duck/points.xyz"]
    images = [name for name in smaller if name.startswith("data") and name.endswith(".png")]
    assert len(images) == 9
    assert all(smaller[name] == data[name] for name in images)


def test_data_of_other_sizes_are_refused(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    folder = ensure_toy(tmp_path / "toy", progress=lambda *step: steps.append(step), **SIZES)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(UserError, match="contains other toy data"):
        ensure_toy(folder, **SIZES | {"height": 40})


def test_one_object_alone_is_the_same_object(tmp_path: Path) -> None:
    folder = ensure_toy(tmp_path / "toy", cls="duck", **SIZES)
    assert [meta(folder, name)["cls_indexes"].item() for name in listed(folder, "train")] == [1] * 3
    one, every = toy_object_models("toy-pose", "duck"), toy_object_models("toy-pose")
    assert (one.names, one.symmetric) == (("duck",), frozenset())
    np.testing.assert_array_equal(one.keypoints[0], every.keypoints[every.names.index("duck")])
    with pytest.raises(UserError, match="toy-pose has no object 'egg'") as caught:
        toy_object_models("toy-pose", "egg")
    assert caught.value.hint == "use --cls NAME, one of: truck, watering_can, duck, camera, bottle"
