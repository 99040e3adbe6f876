"""The toy dataset: its layout, that labels, depth and poses agree, and when it is made anew."""

from pathlib import Path
from typing import Any, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from ffreid.pose.toy.dataset import ensure_toy, toy_object_models
from ffreid.pose.toy.objects import toy_objects, uniform
from ffreid.pose.toy.render import Solid, pixel_rays, render
from ffreid.pose.toy.scenes import Scene, capture, toy_intrinsics
from ffreid.pose.toy.shapes import Ellipsoid
from tests.makers import toy_folder


class Sizes(TypedDict):
    frames: int
    test_frames: int
    synthetic: int
    height: int
    width: int
    seed: int


SIZES = Sizes(frames=2, test_frames=1, synthetic=1, height=48, width=64, seed=0)
OTHER_FRAMES, OTHER_HEIGHT, OTHER_SEED = SIZES.copy(), SIZES.copy(), SIZES.copy()
OTHER_FRAMES["frames"], OTHER_HEIGHT["height"], OTHER_SEED["seed"] = 1, 40, 9


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_folder(tmp_path_factory.mktemp("made"), frames=12, test_frames=2, synthetic=2)


def listed(folder: Path, part: str) -> list[str]:
    return (folder / f"dataset_config/{part}_data_list.txt").read_text().split()


def stored(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read(folder: Path, name: str, kind: str) -> npt.NDArray[Any]:
    image = cv2.imread(str(folder / f"{name}-{kind}.png"), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def meta(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = scipy.io.loadmat(folder / f"{name}-meta.mat")
    return content


def surface_distance(folder: Path, name: str) -> npt.NDArray[np.float64]:
    """How far each measured, labelled pixel lies off its object's box, ellipsoid or frustum."""
    labels, depth, facts = (
        read(folder, name, "label"),
        read(folder, name, "depth"),
        meta(folder, name),
    )
    rays = pixel_rays(facts["intrinsic_matrix"], *labels.shape)
    points = rays * (depth / facts["factor_depth"][0, 0])[..., None]
    distances = []
    for index, class_id in enumerate(facts["cls_indexes"][:, 0]):
        pose = facts["poses"][:, :, index]
        mine = (labels == class_id) & (depth > 0)
        surface = (points[mine] - pose[:, 3]) @ pose[:, :3]
        towards = rays[mine] @ pose[:, :3]
        # From 0.3 of depth before the measured point: how far to the true surface?
        met = toy_objects()[class_id - 1].shape.intersect(surface - 0.3 * towards, towards)
        distances.append(met - 0.3)
    return np.concatenate(distances)


@pytest.mark.parametrize("class_id", range(1, 6))
def test_keypoints_and_mesh_points_lie_on_the_surface(toy: Path, class_id: int) -> None:
    shape = toy_objects()[class_id - 1].shape
    points = np.loadtxt(toy / f"models/{toy_objects()[class_id - 1].name}/points.xyz")
    keypoints = toy_object_models("toy-pose").keypoints[class_id - 1]
    assert points.shape == (800, 3)
    for surface in (points, keypoints.astype(np.float64)):
        normals = shape.normals(surface)
        np.testing.assert_allclose(
            shape.intersect(surface + 0.01 * normals, -normals), 0.01, atol=1e-6
        )
    apart = np.linalg.norm(keypoints[:, None] - keypoints, axis=-1) + np.eye(8)
    assert apart.min() > 0.02


def test_lists_name_exactly_the_frames_on_disk(toy: Path) -> None:
    names = listed(toy, "train") + listed(toy, "test")
    found = {str(path.relative_to(toy))[: -len("-color.png")] for path in toy.rglob("*-color.png")}
    assert len(names) == 16
    assert set(names) == found
    assert all(name.startswith("data/0048/") for name in listed(toy, "test"))
    assert [name for name in names if name.startswith("data_syn/")] == listed(toy, "train")[-2:]


def test_images_have_the_layout_s_types(toy: Path) -> None:
    name = listed(toy, "test")[0]
    assert read(toy, name, "color").shape == (96, 128, 3)
    assert read(toy, name, "depth").dtype == np.uint16
    assert read(toy, name, "label").dtype == np.uint8
    facts = meta(toy, name)
    count = len(facts["cls_indexes"])
    assert facts["cls_indexes"].shape == (count, 1)
    assert facts["poses"].shape == (3, 4, count)
    assert facts["factor_depth"].item() == 10000


def test_the_camera_at_full_size_is_ycb_video_s() -> None:
    expected = [[1066.778, 0, 312.9869], [0, 1067.487, 241.3109], [0, 0, 1]]
    np.testing.assert_array_equal(toy_intrinsics(480, 640), expected)


def test_labels_and_meta_list_the_same_objects_each_clearly_visible(toy: Path) -> None:
    for name in listed(toy, "train") + listed(toy, "test"):
        labels = read(toy, name, "label")
        found, counts = np.unique(labels[labels > 0], return_counts=True)
        np.testing.assert_array_equal(found, meta(toy, name)["cls_indexes"][:, 0])
        assert counts.min() >= 0.003 * labels.size


def test_most_frames_show_three_objects_and_all_objects_occur(toy: Path) -> None:
    shown = [meta(toy, name)["cls_indexes"][:, 0].tolist() for name in listed(toy, "train")]
    assert np.mean([len(ids) >= 3 for ids in shown]) > 0.8
    assert {class_id for ids in shown for class_id in ids} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("index", [0, 5, 11])
def test_measured_pixels_lie_on_their_object_within_the_noise(toy: Path, index: int) -> None:
    distance = surface_distance(toy, listed(toy, "train")[index])
    assert len(distance) > 300
    assert np.isfinite(distance).all()
    assert np.abs(distance).max() < 0.02
    assert np.median(np.abs(distance)) < 0.002


def test_synthetic_frames_are_exact_objects_in_empty_space(toy: Path) -> None:
    name = listed(toy, "train")[-1]
    labels, depth = read(toy, name, "label"), read(toy, name, "depth")
    np.testing.assert_array_equal(depth[labels == 0], 0)
    assert not read(toy, name, "color")[labels == 0].any()
    assert (depth[labels > 0] > 0).all()
    assert np.abs(surface_distance(toy, name)).max() < 1e-4


def test_poses_are_rigid_and_before_the_camera(toy: Path) -> None:
    for name in listed(toy, "train"):
        poses = np.moveaxis(meta(toy, name)["poses"], -1, 0)
        turned = poses[:, :, :3] @ poses[:, :, :3].transpose(0, 2, 1)
        np.testing.assert_allclose(turned, np.broadcast_to(np.eye(3), turned.shape), atol=1e-6)
        np.testing.assert_allclose(np.linalg.det(poses[:, :, :3]), 1, atol=1e-6)
        assert ((poses[:, 2, 3] > 0.35) & (poses[:, 2, 3] < 1.5)).all()


@pytest.mark.parametrize("thing", toy_objects(), ids=lambda thing: thing.name)
def test_only_symmetric_objects_look_the_same_turned_about_z(thing: Any) -> None:
    tilt = np.array([[1.0, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    half_turn = np.diag([-1.0, -1, 1])
    images = [
        render(
            [Solid(thing.shape, thing.texture, np.column_stack([rotation, [0, 0, 0.5]]), 1)],
            toy_intrinsics(48, 64),
            height=48,
            width=64,
            light=np.array([0.0, -0.6, -0.8]),
        ).rgb.astype(int)
        for rotation in (tilt, tilt @ half_turn)
    ]
    difference = np.abs(images[0] - images[1]).sum(-1)
    assert (difference.mean() < 1) == thing.symmetric
    assert thing.symmetric or difference.mean() > 5


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (
        stored(ensure_toy(tmp_path / name, **sizes))
        for name, sizes in (("first", SIZES), ("again", SIZES), ("other", OTHER_SEED))
    )
    assert first == again
    assert first.keys() == other.keys()
    assert first["data/0000/000001-color.png"] != other["data/0000/000001-color.png"]
    assert first["models/can/points.xyz"] == other["models/can/points.xyz"]


def test_meta_files_bear_no_date(toy: Path) -> None:
    content = (toy / f"{listed(toy, 'test')[0]}-meta.mat").read_bytes()
    assert content[:116].rstrip() == b"MATLAB 5.0 MAT-file"


def test_hardly_visible_objects_are_neither_listed_nor_labelled() -> None:
    sizes = ((0.05, 0.0, 2), (0.004, 0.1, 1))
    solids = [
        Solid(
            Ellipsoid((half, half, half)),
            uniform((0.5, 0.5, 0.5)),
            np.column_stack([np.eye(3), [x, 0, 0.7]]),
            label,
        )
        for half, x, label in sizes
    ]
    frame = capture(
        "name",
        Scene(tuple(solids), np.array([0.0, -1, 0]), noise_free=True),
        toy_intrinsics(96, 128),
        height=96,
        width=128,
        generator=np.random.default_rng(0),
    )
    assert frame.class_ids.tolist() == [2]
    assert set(np.unique(frame.labels)) == {0, 2}
    # It is still there to be seen.
    assert frame.depth[48, 62 + round(213 * 0.1 / 0.7)] > 0


def test_a_smaller_set_is_the_start_of_a_larger_one(tmp_path: Path) -> None:
    small = stored(ensure_toy(tmp_path / "small", **OTHER_FRAMES))
    large = stored(ensure_toy(tmp_path / "large", **SIZES))
    images = [name for name in small if name.startswith("data") and name.endswith(".png")]
    assert len(images) == 9
    assert all(small[name] == large[name] for name in images)


def test_progress_is_reported_after_each_frame(tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    ensure_toy(
        tmp_path / "toy", **SIZES, progress=lambda done, total: reported.append((done, total))
    )
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    "sizes", [OTHER_FRAMES, OTHER_HEIGHT, OTHER_SEED], ids=["frames", "height", "seed"]
)
def test_data_of_other_sizes_are_replaced(tmp_path: Path, sizes: Sizes) -> None:
    folder = ensure_toy(tmp_path / "toy", **SIZES)
    ensure_toy(folder, **sizes)
    assert stored(folder) == stored(ensure_toy(tmp_path / "new", **sizes))
