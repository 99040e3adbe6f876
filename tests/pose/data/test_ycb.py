"""The reader of YCB-Video's layout."""

import pickle
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ffreid.errors import UserError
from ffreid.pose.data import ycb
from ffreid.pose.data.ycb import FOLDER_NAMES, YcbReader, is_authors_list
from ffreid.pose.objects import ycb_objects
from tests.pose.data.makers_data import flat_scene, write_ycb_frame, write_ycb_lists

OBJECTS = ycb_objects()
NAME = "data/0048/000001"
CAMERA = np.array([[300.0, 0, 32], [0, 310, 30], [0, 0, 1]])
POSE = np.eye(3, 4)[..., None]
PARTS = ["color.png", "depth.png", "label.png", "meta.mat"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_ycb_frame(tmp_path, NAME, **flat_scene())
    write_ycb_lists(tmp_path, [NAME, "data_syn/000000"], [NAME])
    return tmp_path


def refused(folder: Path, text: str, **options: Any) -> UserError:
    with pytest.raises(UserError, match=text) as raised:
        YcbReader(folder, OBJECTS, **options).read(NAME)
    assert "\n" not in raised.value.message + raised.value.hint
    return raised.value


def test_a_frame_is_read_as_written(folder: Path) -> None:
    scene = flat_scene()
    reader = pickle.loads(pickle.dumps(YcbReader(folder, OBJECTS)))  # as in worker processes
    frame = reader.read(NAME)
    np.testing.assert_array_equal(frame.rgb, scene["color"])
    np.testing.assert_array_equal(frame.depth, scene["depth"])
    np.testing.assert_array_equal(frame.labels, scene["label"])
    np.testing.assert_allclose(frame.camera_from_object, scene["poses"].transpose(2, 0, 1))
    assert (frame.depth_scale, frame.class_ids.tolist(), frame.synthetic) == (10000, [1], False)


@pytest.mark.parametrize(
    ("name", "focal"),
    [
        ("data/0048/000001", 1066.778),
        ("data/0059/000001", 1066.778),
        ("data/0060/000001", 1077.836),
        ("data/0091/000001", 1077.836),
        ("data_syn/000077", 1066.778),
    ],
)
def test_later_sequences_have_the_second_camera(folder: Path, name: str, focal: float) -> None:
    write_ycb_frame(folder, name, **flat_scene())
    frame = YcbReader(folder, OBJECTS).read(name)
    assert frame.intrinsics[0, 0] == pytest.approx(focal, abs=1e-3)
    assert frame.synthetic == name.startswith("data_syn")


def test_the_camera_of_meta_mat_can_be_used(folder: Path) -> None:
    refused(folder, "meta.mat lacks intrinsic_matrix", intrinsics="meta")
    write_ycb_frame(folder, NAME, **flat_scene(), intrinsic_matrix=CAMERA)
    fixed, own = (YcbReader(folder, OBJECTS, intrinsics=k).read(NAME) for k in ("ycb", "meta"))
    for stored in (own.intrinsics, own.stored_intrinsics, fixed.stored_intrinsics):
        np.testing.assert_array_equal(stored, CAMERA)
    assert fixed.intrinsics[0, 0] == pytest.approx(1066.778, abs=1e-3)


@pytest.mark.parametrize(
    "matrix",
    [np.diag([300.0, 310, 1])[:2], CAMERA.T, CAMERA * np.nan, -CAMERA, 2 * CAMERA, "a"],
    ids=str,
)
def test_what_is_no_camera_matrix_is_refused_where_it_is_used(folder: Path, matrix: Any) -> None:
    write_ycb_frame(folder, NAME, **flat_scene(), intrinsic_matrix=matrix)
    assert YcbReader(folder, OBJECTS).read(NAME).stored_intrinsics is None
    refused(folder, "meta.mat: intrinsic_matrix is not a camera matrix", intrinsics="meta")


def test_matlab_7_3_is_named(folder: Path) -> None:
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM"
    (folder / f"{NAME}-meta.mat").write_bytes(header + b"\x89HDF\r\n\x1a\n".ljust(400))
    error = refused(folder, r"meta.mat is a .mat file of Matlab's version 7.3")
    assert "-v7" in error.hint


@pytest.mark.parametrize(
    ("colours", "alpha", "text"),
    [
        ((1, 1, 1), False, None),
        ((1, 1, 1), True, None),
        ((1, 0, 0), False, "label.png has colours, not class numbers"),
        ((0, 1, 2), True, "label.png has colours, not class numbers"),
    ],
)
def test_labels_of_several_channels_are_equal_or_refused(
    folder: Path, colours: tuple[int, ...], alpha: bool, text: str | None
) -> None:
    label = flat_scene()["label"]
    channels = [label * factor for factor in colours] + [np.full_like(label, 7)] * alpha
    Image.fromarray(np.stack(channels, axis=2)).save(folder / f"{NAME}-label.png")
    if text is None:
        frame = YcbReader(folder, OBJECTS).read(NAME)
        np.testing.assert_array_equal(frame.labels, label)
    else:
        refused(folder, text)


def test_alpha_channel_and_poses_without_last_axis_are_read(folder: Path) -> None:
    scene = flat_scene()
    rgba = np.concatenate([scene["color"], np.full((64, 64, 1), 7, np.uint8)], axis=2)
    write_ycb_frame(folder, NAME, **scene | {"poses": scene["poses"][..., 0], "color": rgba})
    frame = YcbReader(folder, OBJECTS).read(NAME)
    np.testing.assert_array_equal(frame.rgb, scene["color"])
    assert frame.camera_from_object.shape == (1, 3, 4)


@pytest.mark.parametrize("name", FOLDER_NAMES)
def test_the_parent_is_accepted_and_may_have_the_lists(tmp_path: Path, name: str) -> None:
    write_ycb_frame(tmp_path / name, NAME, **flat_scene())
    write_ycb_lists(tmp_path / name, [NAME], [NAME])
    assert YcbReader(tmp_path, OBJECTS).folder == tmp_path / name
    reader = YcbReader(tmp_path / name, OBJECTS)
    assert reader.folder == tmp_path / name
    lists = tmp_path / name / "dataset_config"
    lists.rename(reader.folder.parent / "dataset_config")
    assert reader.test_names == [NAME]


def test_lists_can_be_replaced(folder: Path) -> None:
    lists = folder / "train.txt", folder / "test.txt"
    lists[0].write_text("data/0001/000002\n\n data/0001/000003 \n")
    lists[1].write_text("0048/000001\ndata_syn/000003\n")
    reader = YcbReader(folder, OBJECTS, train_list=lists[0], test_list=lists[1])
    assert reader.train_names == ["data/0001/000002", "data/0001/000003"]
    assert reader.test_names == ["data/0048/000001", "data_syn/000003"]


def test_lists_may_come_from_other_systems(folder: Path) -> None:
    stored = unicodedata.normalize("NFD", "data/Küche/1")  # as macOS writes names
    (folder / stored).parent.mkdir(parents=True)
    (folder / f"{stored}-color.png").touch()
    (folder / "list.txt").write_text('.\\data\\Küche\\1\t\r\n"0048\\000001"\r\n', "utf-8-sig")
    reader = YcbReader(folder, OBJECTS, train_list=folder / "list.txt")
    assert reader.train_names == [stored, "data/0048/000001"]


@pytest.mark.parametrize("again", [NAME, "0048/000001", f"./{NAME}", "data/0048/../0048/000001"])
def test_a_frame_is_tested_once_and_trained_as_often_as_listed(folder: Path, again: str) -> None:
    write_ycb_lists(folder, [NAME, again], [NAME, again])
    reader = YcbReader(folder, OBJECTS)
    assert reader.train_names == [NAME, NAME]
    with pytest.raises(UserError, match=f"test_data_list.txt: '{NAME}' is listed twice"):
        _ = reader.test_names


def test_the_authors_lists_give_one_real_frame_in_five(folder: Path) -> None:
    reader = YcbReader(folder, OBJECTS)
    assert (reader.real_train_names, reader.test_names) == ([NAME], [NAME])
    assert reader.synthetic_train_names == ["data_syn/000000"]
    assert "(not the authors' list)" in reader.summary()
    rng = np.random.RandomState(0)
    real = [reader.draw(rng) == NAME for _ in range(2000)]
    assert np.mean(real) == pytest.approx(0.2, abs=0.03)
    for only in ("data/0001/000001", "data_syn/000001"):
        write_ycb_lists(folder, [only], [NAME])
        assert {YcbReader(folder, OBJECTS).draw(rng) for _ in range(20)} == {only}


def test_the_releases_lists_give_keyframes_and_every_seventh_frame(tmp_path: Path) -> None:
    sets = tmp_path / "image_sets"
    sets.mkdir()
    frames = [f"{s:04d}/{f:06d}" for s, count in ((0, 9), (1, 3)) for f in range(1, count + 1)]
    (sets / "train.txt").write_text("\n".join(frames))
    (sets / "keyframe.txt").write_text("0048/000001\n0048/000036\n")
    for number in (5, 2):
        write_ycb_frame(tmp_path, f"data_syn/{number:06d}", **flat_scene())
    reader = YcbReader(tmp_path, OBJECTS)
    assert reader.test_names == ["data/0048/000001", "data/0048/000036"]
    seventh = ("0000/000001", "0000/000008", "0001/000001")
    assert reader.real_train_names == [f"data/{name}" for name in seventh]
    assert reader.synthetic_train_names == ["data_syn/000002", "data_syn/000005"]


def test_the_authors_lists_are_recognised_by_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["data/0048/000001", "data/0048/000036"]
    checksum = zlib.crc32(b"data/0048/000001\ndata/0048/000036")
    facts = {"lists": {"test": {"lines": 2, "crc32": checksum}}}
    monkeypatch.setattr(ycb, "resource", lambda name: facts)
    assert is_authors_list(lines, "test")
    assert not is_authors_list(lines[::-1], "test")
    assert not is_authors_list(lines[:1], "test")


@pytest.mark.parametrize(
    ("name", "text"),
    [("missing", "missing: it does not exist"), ("other", "found cat"), ("empty", "found nothing")],
)
def test_a_folder_without_the_dataset_shows_the_expected_layout(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / "other/cat").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    assert "data/SSSS/FFFFFF-" in refused(tmp_path / name, text).hint


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "no list of train frames: .*train_data_list.txt nor .*train.txt; found data"),
        ("\n\n", "train_data_list.txt is empty"),
    ],
)
def test_an_invalid_list_is_an_error_when_used(
    folder: Path, content: str | None, text: str
) -> None:
    path = folder / "dataset_config/train_data_list.txt"
    path.unlink() if content is None else path.write_text(content)
    reader = YcbReader(folder, OBJECTS)
    assert reader.test_names
    with pytest.raises(UserError, match=text):
        _ = reader.train_names


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_or_truncated_file_is_an_error(folder: Path, part: str) -> None:
    path = folder / f"{NAME}-{part}"
    content = path.read_bytes()
    for share in (0.0, 0.1, 0.5, 0.7):
        path.write_bytes(content[: int(share * len(content))])
        refused(folder, f"{NAME}-{part}")
    path.unlink()
    refused(folder, f"no .*{NAME}-{part}")


@pytest.mark.parametrize(
    ("part", "shape", "text"),
    [
        ("depth", (32, 64), f"differ in size: .*{NAME}-color.png 64 x 64.*depth.png 32 x 64"),
        ("label", (32, 64), f"differ in size: .*{NAME}-color.png 64 x 64.*label.png 32 x 64"),
        ("depth", (64, 64, 3), rf"{NAME}-depth.png has shape \(64, 64, 3\)"),
    ],
)
def test_an_image_of_another_shape_is_an_error(
    folder: Path, part: str, shape: tuple[int, ...], text: str
) -> None:
    Image.fromarray(np.zeros(shape, np.uint8)).save(folder / f"{NAME}-{part}.png")
    refused(folder, text)


def test_meta_mat_of_a_small_file_with_huge_arrays_is_refused_before(folder: Path) -> None:
    savemat(
        folder / f"{NAME}-meta.mat",
        {"poses": np.zeros((3, 4, 10**6)), "cls_indexes": [1], "factor_depth": 1},
        do_compression=True,
    )
    refused(folder, "meta.mat: poses has 12,000,000 numbers")


@pytest.mark.parametrize("part", ["color", "depth", "label"])
def test_a_rotated_image_is_refused(folder: Path, part: str) -> None:
    path = folder / f"{NAME}-{part}.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(path) as image:
        image.load()
        image.save(path, exif=exif)
    refused(folder, f"{part}.png has an EXIF orientation")


def test_a_missing_field_of_meta_mat_is_an_error(folder: Path) -> None:
    savemat(folder / f"{NAME}-meta.mat", {"poses": np.eye(3, 4)[..., None]})
    refused(folder, r"meta.mat lacks cls_indexes, factor_depth \(it has poses\)")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cls_indexes": np.array([0])}, "meta.mat: class id 0 is outside 1 … 21"),
        ({"cls_indexes": np.array([22])}, "meta.mat: class id 22 is outside 1 … 21"),
        ({"cls_indexes": np.array([1, 2])}, r"poses have shape \(3, 4.*\) for 2 objects"),
        ({"label": np.full((64, 64), 99)}, "label.png: class id 99 is outside 0 … 21"),
        ({"poses": np.full((3, 4, 1), np.nan)}, "meta.mat: a pose contains NaN"),
        ({"poses": POSE * 1.02}, r"R is not a rotation \(determinant 1.06\)"),
        ({"poses": POSE * [[[1]], [[1]], [[-1]]]}, r"R is not a rotation \(determinant -1\)"),
        ({"factor_depth": 0}, "meta.mat: factor_depth is"),
        ({"factor_depth": -1}, "meta.mat: factor_depth is"),
        ({"factor_depth": np.nan}, "meta.mat: factor_depth is"),
        ({"factor_depth": 0.001}, "meta.mat: factor_depth is .*0.001"),
    ],
)
def test_an_invalid_value_is_an_error(folder: Path, change: dict[str, Any], text: str) -> None:
    write_ycb_frame(folder, NAME, **flat_scene() | change)
    refused(folder, text)
