"""Splits of BOP datasets: folders of scenes and webdataset shards give the same frames."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("trimesh")

from ffreid.errors import UserError
from ffreid.pose.bop.reader import BopReader, bop_objects
from tests.commands import mistake
from tests.pose.bop.make import encode, make_bop, to_shards

SCENE = "000003"


def reader(root: Path, **options: Any) -> BopReader:
    return BopReader(root, bop_objects(root, "bop", ""), **options)


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize("index", [True, False])
def test_shards_hold_the_same_frames_as_folders(tmp_path: Path, index: bool) -> None:
    root = make_bop(tmp_path / "mini", ("train_pbr",))
    folders = reader(root)
    names = folders.train_names
    expected = [folders.read(name) for name in names]
    to_shards(root / "train_pbr", index=index)
    shards = pickle.loads(pickle.dumps(reader(root)))  # as it travels to data workers
    assert shards.train_names == names
    for frame in expected:
        found = shards.read(frame.name)
        for key in ("rgb", "depth", "labels", "instances", "intrinsics", "camera_from_object"):
            np.testing.assert_array_equal(getattr(found, key), getattr(frame, key))
        assert found.depth_scale == frame.depth_scale
    assert shards.files(names[2]) == [root / "train_pbr/shard-000001.tar"]


def test_run_lengths_go_down_the_columns() -> None:
    assert encode(np.array([[1, 0], [1, 1]])) == {"size": [2, 2], "counts": [0, 2, 1, 1]}


def _scene(change: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda root: change(root / f"train_pbr/{SCENE}")


def _shard(change: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def changed(root: Path) -> None:
        to_shards(root / "train_pbr")
        change(root / "train_pbr")

    return changed


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_scene(lambda s: (s / "mask_visib/000000_000002.png").unlink()), "2 masks of 3 instances"),
        (
            _scene(lambda s: (s / "mask_visib/000000_000003.png").write_bytes(b"")),
            "4 masks of 3 instances",
        ),
        (_scene(lambda s: (s / "mask_visib").rename(s / "other")), "no masks of the visible parts"),
        (_scene(lambda s: (s / "rgb/000000.png").unlink()), "no image"),
        (_scene(lambda s: (s / "depth/000000.png").unlink()), "no depth image"),
        (
            _scene(
                lambda s: shutil.copy(s / "mask_visib/000000_000000.png", s / "depth/000000.png")
            ),
            "has 8 bits",
        ),
        (
            _scene(lambda s: edit(s / "scene_gt.json", lambda t: t | {"0": [{"obj_id": 2}]})),
            "image 0: KeyError('cam_R_m2c')",
        ),
        (_scene(lambda s: s.rename(s.parent / "first")), "not a scene's number"),
        (
            _scene(lambda s: edit(s / "scene_camera.json", _scaled(0))),
            "image 0: depth_scale is 0",
        ),
        (
            _scene(lambda s: edit(s / "scene_camera.json", _scaled(float("nan")))),
            "image 0: depth_scale is nan",
        ),
        (_shard(lambda s: (s / "shard-000001.tar").unlink()), "no shard"),
        (_shard(lambda s: (s / "shard-000000.tar").write_bytes(b"x" * 2000)), "cannot read"),
        (
            _shard(lambda s: edit(s / "key_to_shard.json", lambda k: k | {f"{SCENE}_000000": 1})),
            f"has no {SCENE}_000000.gt.json",
        ),
        (
            _shard(lambda s: edit(s / "key_to_shard.json", lambda k: {"three": 0})),
            "'three' is no key",
        ),
    ],
)
def test_what_a_frame_contradicts_or_lacks_is_named(
    tmp_path: Path, change: Callable[[Path], Any], error: str
) -> None:
    root = make_bop(tmp_path / "mini", ("train_pbr",))
    change(root)
    with pytest.raises(UserError) as caught:
        reader(root).read(f"train_pbr/{SCENE}/000000")
    assert error in caught.value.message


def _scaled(scale: float) -> Callable[[Any], Any]:
    return lambda cameras: cameras | {"0": cameras["0"] | {"depth_scale": scale}}


def test_a_frame_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = make_bop(tmp_path / "mini")
    for name in ("test/000003/000009", "test/000008/000000", "test/x"):
        with pytest.raises(UserError, match=f"no frame {name}"):
            reader(root).read(name)


def test_two_cameras_and_grey_images_share_a_scene(tmp_path: Path) -> None:
    root = make_bop(tmp_path / "mini")
    scene = root / f"test/{SCENE}"
    second = {"cam_K": [240.0, 0, 32, 0, 240, 24, 0, 0, 1], "depth_scale": 1.0}
    edit(scene / "scene_camera.json", lambda cameras: cameras | {"4": second})
    (scene / "gray").mkdir()
    grey = np.arange(64 * 48, dtype=np.uint8).reshape(48, 64)
    (scene / "rgb/000004.png").unlink()
    cv2.imwrite(str(scene / "gray/000004.tif"), grey)
    cv2.imwrite(str(scene / "depth/000004.png"), np.full((48, 64), 600, np.uint16))
    for path in scene.glob("mask_visib/000004_*.png"):
        cv2.imwrite(str(path), np.zeros((48, 64), np.uint8))
    first, other = (reader(root).read(f"test/{SCENE}/00000{n}") for n in (0, 4))
    assert first.depth_scale == pytest.approx(10_000)
    assert first.intrinsics[0, 0] == 120
    assert other.depth_scale == 1000
    assert other.intrinsics[0, 0] == 240
    np.testing.assert_array_equal(other.rgb, np.repeat(grey[:, :, None], 3, axis=2))


def test_training_uses_the_splits_that_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_bop(tmp_path / "mini", ("train_canon", "train_pbr"))
    assert len(reader(root).train_names) == 6
    chosen = reader(root, train_splits=["train_pbr", "train_primesense"]).train_names
    assert {name.split("/")[0] for name in chosen} == {"train_pbr"}
    with pytest.raises(UserError, match="no folder train_real"):
        _ = reader(root, train_splits=["train_real"]).train_names
    message, hint = mistake(capsys, f"data --dataset bop --root {root}/models_eval")
    assert "models_eval" in message or "models_eval" in hint


def test_equal_pictures_have_equal_targets_unless_canonical_is_off(tmp_path: Path) -> None:
    root = make_bop(tmp_path / "mini")
    name = f"test/{SCENE}/000004"
    stored = reader(root, canonical=False).read(name).camera_from_object
    before = reader(root).read(name).camera_from_object
    flip = np.diag([1.0, -1, -1])

    def turned(truth: Any) -> Any:
        for entry in truth["4"][:2]:  # the boxes
            pose = np.reshape(entry["cam_R_m2c"], (3, 3)) @ flip
            entry["cam_R_m2c"] = pose.ravel().tolist()
        return truth

    edit(root / f"test/{SCENE}/scene_gt.json", turned)
    np.testing.assert_allclose(reader(root).read(name).camera_from_object, before, atol=1e-6)
    other = reader(root, canonical=False).read(name).camera_from_object
    np.testing.assert_allclose(other[:2, :, :3], stored[:2, :, :3] @ flip, atol=1e-6)
