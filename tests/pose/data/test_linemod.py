"""The reader of LineMOD's layout."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ffreid.errors import UserError
from ffreid.pose.data.linemod import FOLDER_NAMES, LinemodReader
from ffreid.pose.objects import linemod_objects
from tests.pose.data.makers_data import (
    gt_entry,
    write_linemod_frame,
    write_linemod_lists,
    write_pickle,
)

APE = linemod_objects("ape")
REAL, RENDERED = "data/01/0003", "renders/ape/0.pkl"
TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
SHIFT = np.array([0.1, -0.05, 0.9])


def images(seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.RandomState(seed)
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:40] = 255
    return {
        "rgb": rng.randint(0, 256, (48, 64, 3)).astype(np.uint8),
        "depth": rng.randint(700, 1200, (48, 64)).astype(np.uint16),
        "mask": mask,
    }


def write_set(folder: Path, number: int = 1, *, entries: Sequence[str] = ()) -> None:
    home = folder / "data" / f"{number:02d}"
    write_linemod_frame(home, "0003", **images())
    write_linemod_lists(home, ["0003"], ["0003", "0007"])
    listed = "".join(entries) or gt_entry(TURN, SHIFT, number)
    (home / "gt.yml").write_text(f"3:\n{listed}7:\n{gt_entry(TURN, SHIFT, 2)}")


def rendered(kind: str = "render") -> dict[str, Any]:
    mask = images()["mask"]
    return {
        "rgb": images(1)["rgb"],
        "depth": np.full((48, 64), 0.75, np.float32),
        "mask": np.where(mask > 0, 1, 5).astype(np.uint8) if kind == "fuse" else mask,
        "K": np.array([[700.0, 0, 320], [0, 700, 240], [0, 0, 1]]),
        "RT": np.concatenate([TURN, SHIFT[:, None]], axis=1),
        "cls_typ": "ape",
        "rnd_typ": kind,
    }


UNNUMBERED = gt_entry(TURN, SHIFT, 1).replace("  obj_id: 1\n", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_set(tmp_path)
    return tmp_path


def refused(folder: Path, text: str, name: str = REAL, **options: Any) -> UserError:
    with pytest.raises(UserError, match=text) as raised:
        LinemodReader(folder, APE, **options).read(name)
    assert "\n" not in raised.value.message + raised.value.hint
    return raised.value


def test_a_real_frame_is_read_as_written(folder: Path) -> None:
    reader = LinemodReader(folder, APE)
    reader.read(REAL)
    (folder / "data/01/gt.yml").unlink()  # it is parsed once
    frame, written = pickle.loads(pickle.dumps(reader)).read(REAL), images()
    np.testing.assert_array_equal(frame.rgb, written["rgb"])
    np.testing.assert_array_equal(frame.depth, written["depth"])
    np.testing.assert_array_equal(frame.labels, written["mask"] > 0)
    np.testing.assert_allclose(frame.camera_from_object[0, :, :3], TURN)
    np.testing.assert_allclose(frame.camera_from_object[0, :, 3], SHIFT, atol=1e-7)
    assert (frame.depth_scale, frame.class_ids.tolist()) == (1000, [1])
    assert frame.intrinsics[0, 0] == 572.4114


def paint(*channels: float) -> npt.NDArray[np.uint8]:
    """The mask with the object in each channel by a factor."""
    return np.stack([images()["mask"] * factor for factor in channels], axis=2).astype(np.uint8)


def palette() -> Image.Image:
    image = Image.fromarray((images()["mask"] == 0).astype(np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])  # the object is colour 0, white
    return image


@pytest.mark.parametrize(
    "mask",
    [
        Image.fromarray(images()["mask"]),
        Image.fromarray(images()["mask"] > 0),
        Image.fromarray(paint(1, 1, 1)),
        Image.fromarray(paint(0, 1, 0)),
        Image.fromarray(paint(0, 0, 0.01)),
        Image.fromarray(np.dstack([paint(0, 0, 1), np.full((48, 64), 255, np.uint8)])),
        Image.fromarray(np.dstack([images()["mask"], np.full((48, 64), 9, np.uint8)]), "LA"),
        Image.fromarray(images()["mask"].astype(np.uint16) * 100),
        palette(),
    ],
    ids=lambda mask: mask.mode,
)
def test_a_mask_is_read_as_it_looks(folder: Path, mask: Image.Image) -> None:
    mask.save(folder / "data/01/mask/0003.png")
    labels = LinemodReader(folder, APE).read(REAL).labels
    np.testing.assert_array_equal(labels, images()["mask"] > 0)


@pytest.mark.parametrize("frame", ["3", "'3'", '"0003"', "0003"])
@pytest.mark.parametrize("number", ["1", "'1'", "01"])
def test_the_entry_with_the_objects_number_is_used(tmp_path: Path, frame: str, number: str) -> None:
    entries = [gt_entry(np.eye(3), SHIFT, 5), gt_entry(TURN, SHIFT, 1)]
    write_set(tmp_path)
    listed = "".join(entries).replace("obj_id: 1", f"obj_id: {number}")
    (tmp_path / "data/01/gt.yml").write_text(f"{frame}:\n{listed}")
    poses = LinemodReader(tmp_path, APE).read(REAL).camera_from_object
    np.testing.assert_allclose(poses[:, :, :3], [TURN])


def test_zero_padded_frames_of_gt_are_not_octal(folder: Path) -> None:
    for part in ("rgb", "depth", "mask"):
        (folder / f"data/01/{part}/0003.png").rename(folder / f"data/01/{part}/0010.png")
    right, wrong = (gt_entry(turn, SHIFT, 1) for turn in (TURN, np.eye(3)))
    (folder / "data/01/gt.yml").write_text(f"0010:\n{right}8:\n{wrong}")
    poses = LinemodReader(folder, APE).read("data/01/0010").camera_from_object
    np.testing.assert_allclose(poses[:, :, :3], [TURN])


def test_json_and_several_objects_of_the_number_are_read(folder: Path) -> None:
    entry = {"cam_R_m2c": TURN.ravel().tolist(), "cam_t_m2c": [0, 0, 900], "obj_id": 1}
    other = entry | {"cam_t_m2c": [1e2, 0, 9e2]}
    (folder / "data/01/gt.yml").write_text(json.dumps({"3": [entry, other]}))
    frame = LinemodReader(folder, APE).read(REAL)
    assert frame.class_ids.tolist() == [1, 1]
    np.testing.assert_allclose(frame.camera_from_object[:, 0, 3], [0, 0.1])


@pytest.mark.parametrize("again", ["0003", "01/0003", "data/01/0003"])
def test_a_frame_is_tested_once(folder: Path, again: str) -> None:
    (folder / "data/01/test.txt").write_text(f"0003\n{again}\n")
    with pytest.raises(UserError, match=r"test.txt: 'data/01/0003' is listed twice"):
        _ = LinemodReader(folder, APE).test_names


@pytest.mark.parametrize("line", ["data/02/0003", "02/0003", "2/0003", "data/02/rgb/0003"])
def test_frames_of_other_folders_are_refused(folder: Path, line: str) -> None:
    (folder / "list.txt").write_text(f"data/01/0003\n{line}\n")
    reader = LinemodReader(folder, APE, test_list=folder / "list.txt")
    for use in (lambda: reader.test_names, lambda: reader.read(f"data/02/{line[-4:]}")):
        with pytest.raises(UserError, match="0003 is not a frame of ape, object 1"):
            use()


def test_the_cameras_of_info_yml_can_be_used(folder: Path) -> None:
    refused(folder, r"no file .*info.yml", intrinsics="meta")
    camera = [300.0, 0, 32, 0, 310, 24, 0, 0, 1]
    (folder / "data/01/info.yml").write_text(f"3: {{cam_K: {camera}, depth_scale: 0.1}}\n")
    fixed, own = (LinemodReader(folder, APE, intrinsics=k).read(REAL) for k in ("ycb", "meta"))
    assert (fixed.depth_scale, fixed.intrinsics[0, 0]) == (1000, pytest.approx(572.4114))
    assert own.depth_scale == pytest.approx(10000)
    for matrix in (own.intrinsics, own.stored_intrinsics, fixed.stored_intrinsics):
        np.testing.assert_array_equal(matrix, np.reshape(camera, (3, 3)))


@pytest.mark.parametrize(("kind", "name"), [("render", RENDERED), ("fuse", "fuse/ape/0.pkl")])
def test_a_pickled_frame_is_read_in_millimetres_with_its_camera(
    folder: Path, kind: str, name: str
) -> None:
    write_pickle(folder / name, rendered(kind))
    frame = LinemodReader(folder, APE).read(name)
    np.testing.assert_array_equal(frame.depth, 750)
    np.testing.assert_array_equal(frame.labels, images()["mask"] > 0)
    assert frame.intrinsics[0, 0] == 700
    assert frame.synthetic


def test_lists_contain_each_kind(folder: Path) -> None:
    assert "accuracy needs renders/ and fuse/" in LinemodReader(folder, APE).summary()
    for name in ("renders/ape/1", "renders/ape/0", "fuse/ape/0"):
        write_pickle(folder / f"{name}.pkl", rendered())
    reader = LinemodReader(folder, APE)
    assert reader.real_train_names == [REAL]
    assert reader.test_names == [REAL, "data/01/0007"]
    assert reader.render_names == ["renders/ape/0.pkl", "renders/ape/1.pkl"]
    assert reader.fuse_names == ["fuse/ape/0.pkl"]
    assert len(reader.train_names) == 4
    (folder / "test.txt").write_text("data/01/0009\n0011\n")
    reader = LinemodReader(folder, APE, test_list=folder / "test.txt")
    assert reader.test_names == ["data/01/0009", "data/01/0011"]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("renders", "fuse"), {"data": 0.30, "fuse": 0.28, "renders": 0.42}),
        (("renders",), {"data": 0.30, "renders": 0.70}),
        (("fuse",), {"data": 0.30, "fuse": 0.70}),
        ((), {"data": 1.0}),
    ],
)
def test_kinds_are_sampled_with_the_probabilities_of_the_original(
    folder: Path, kinds: tuple[str, ...], expected: dict[str, float]
) -> None:
    for kind in kinds:
        write_pickle(folder / kind / "ape/0.pkl", rendered())
    reader = LinemodReader(folder, APE)
    rng = np.random.RandomState(0)
    samples = [reader.draw(rng).partition("/")[0] for _ in range(3000)]
    assert set(samples) == set(expected)
    for kind, share in expected.items():
        assert samples.count(kind) / 3000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("name", FOLDER_NAMES)
def test_the_parent_of_the_dataset_is_accepted(tmp_path: Path, name: str) -> None:
    write_set(tmp_path / name)
    assert LinemodReader(tmp_path, APE).folder == tmp_path / name


def test_a_missing_folder_shows_the_expected_layout(tmp_path: Path) -> None:
    error = refused(tmp_path / "missing", "missing: it does not exist")
    assert "data/NN/{rgb,depth,mask}" in error.hint
    write_set(tmp_path, 2)
    refused(tmp_path, r"no folder .*data/01")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot read the list .*data/01/train.txt"),
        ("0003\ndata/01/rgb/0004.png\n", "train.txt: '0004.png' is not a frame number"),
    ],
)
def test_an_invalid_list_is_an_error_when_used(
    folder: Path, content: str | None, text: str
) -> None:
    path = folder / "data/01/train.txt"
    path.unlink() if content is None else path.write_text(content)
    reader = LinemodReader(folder, APE)
    assert reader.test_names
    with pytest.raises(UserError, match=text):
        reader.summary()


@pytest.mark.parametrize("part", ["rgb", "depth", "mask"])
def test_an_invalid_image_is_an_error(folder: Path, part: str) -> None:
    path = folder / f"data/01/{part}/0003.png"
    path.write_bytes(path.read_bytes()[:60])
    refused(folder, rf"cannot read .*data/01/{part}/0003.png")
    path.unlink()
    refused(folder, rf"no .*data/01/{part}/0003.png")
    if part != "rgb":
        Image.fromarray(np.zeros((48, 32), np.uint8)).save(path)
        refused(folder, rf"differ in size: .*rgb/0003.png 48 x 64.*{part}/0003.png 48 x 32")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, r"no file .*gt.yml"),
        ("3: [", "cannot read .*gt.yml"),
        ("- 3", "gt.yml contains no frames"),
        ("4: []", "gt.yml has no pose of object 1 in frame 3"),
        (f"3:\n{gt_entry(TURN, SHIFT, 9)}", r"no pose of object 1 in frame 3 \(objects: 9\)"),
        (
            f"3:\n{UNNUMBERED * 2}",
            r"frame 3 \(objects: unnumbered, unnumbered\)",
        ),
        ("ape: []", "'ape' is not a frame number"),
        ("3: 4", "frame 3 is not a list of objects"),
        ("3:\n- obj_id: 1\n", "gt.yml: frame 3 lacks a pose"),
        ("3:\n- {obj_id: 1, cam_R_m2c: [1, 2], cam_t_m2c: [0, 0, 1]}\n", "frame 3 lacks a pose"),
        (f"3:\n{gt_entry(TURN * np.nan, SHIFT, 1)}", "a pose contains NaN"),
        (f"3:\n{gt_entry(-TURN, SHIFT, 1)}", "gt.yml: R is not a rotation"),
    ],
)
def test_an_invalid_gt_file_is_an_error(folder: Path, content: str | None, text: str) -> None:
    path = folder / "data/01/gt.yml"
    path.unlink() if content is None else path.write_text(content)
    refused(folder, text)


@pytest.mark.parametrize("key", ["rgb", "depth", "mask", "K", "RT"])
def test_a_missing_or_misshapen_array_is_an_error(folder: Path, key: str) -> None:
    item = rendered() | {key: np.zeros((2, 2))}
    write_pickle(folder / RENDERED, item)
    refused(folder, RENDERED, RENDERED)
    del item[key]
    write_pickle(folder / RENDERED, item)
    refused(folder, rf"{RENDERED} lacks {key}", RENDERED)
