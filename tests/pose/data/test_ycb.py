"""The reader of YCB-Video's layout."""

import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ffreid.errors import UserError
from ffreid.pose.data import ycb
from ffreid.pose.data.meshes import read_xyz_meshes
from ffreid.pose.data.ycb import YcbReader, is_authors_list
from ffreid.pose.objects import ycb_objects
from tests.pose.data.makers_data import flat_scene, write_ycb_frame, write_ycb_lists

OBJECTS = ycb_objects()
NAME = "data/0048/000001"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_ycb_frame(tmp_path, NAME, **flat_scene())
    write_ycb_lists(tmp_path, [NAME, "data_syn/000000"], [NAME])
    return tmp_path


def refused(folder: Path, text: str, name: str = NAME, **options: Any) -> UserError:
    with pytest.raises(UserError, match=text) as raised:
        YcbReader(folder, OBJECTS, **options).read(name)
    error = raised.value
    assert "\n" not in error.message + error.hint
    return error


def test_a_frame_is_read_as_it_was_written(folder: Path) -> None:
    scene = flat_scene()
    frame = YcbReader(folder, OBJECTS).read(NAME)
    np.testing.assert_array_equal(frame.rgb, scene["color"])
    np.testing.assert_array_equal(frame.depth, scene["depth"])
    np.testing.assert_array_equal(frame.labels, scene["label"])
    np.testing.assert_allclose(frame.camera_from_object, scene["poses"].transpose(2, 0, 1))
    assert frame.depth_scale == 10000
    assert frame.class_ids.tolist() == [1]
    assert not frame.synthetic


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


def test_a_frames_own_camera_can_be_used(folder: Path) -> None:
    own = np.array([[300.0, 0, 32], [0, 310, 30], [0, 0, 1]])
    write_ycb_frame(folder, NAME, **flat_scene(), intrinsic_matrix=own)
    frame = YcbReader(folder, OBJECTS, intrinsics="meta").read(NAME)
    np.testing.assert_array_equal(frame.intrinsics, own)


def test_colours_with_an_alpha_channel_lose_it(folder: Path) -> None:
    rgb = flat_scene()["color"]
    rgba = np.concatenate([rgb, np.full((64, 64, 1), 7, np.uint8)], axis=2)
    Image.fromarray(rgba).save(folder / f"{NAME}-color.png")
    np.testing.assert_array_equal(YcbReader(folder, OBJECTS).read(NAME).rgb, rgb)


def test_one_object_whose_last_axis_matlab_dropped_is_read(folder: Path) -> None:
    scene = flat_scene()
    scene["poses"] = scene["poses"][..., 0]
    write_ycb_frame(folder, NAME, **scene)
    assert YcbReader(folder, OBJECTS).read(NAME).camera_from_object.shape == (1, 3, 4)


@pytest.mark.parametrize("own", ycb.FOLDER_NAMES)
def test_the_folder_above_is_as_good_as_the_data_sets_own(tmp_path: Path, own: str) -> None:
    write_ycb_frame(tmp_path / own, NAME, **flat_scene())
    write_ycb_lists(tmp_path / own, [NAME], [NAME])
    assert YcbReader(tmp_path, OBJECTS).folder == tmp_path / own
    assert YcbReader(tmp_path / own, OBJECTS).folder == tmp_path / own


def test_lists_may_lie_beside_the_data_sets_folder(tmp_path: Path) -> None:
    write_ycb_frame(tmp_path / "YCB_Video_Dataset", NAME, **flat_scene())
    write_ycb_lists(tmp_path, [NAME], [NAME])
    assert YcbReader(tmp_path, OBJECTS).test_names == [NAME]


def test_given_lists_come_before_those_found(folder: Path) -> None:
    given = folder / "mine.txt"
    given.write_text("data/0001/000002\n\n data/0001/000003 \n")
    reader = YcbReader(folder, OBJECTS, train_list=given)
    assert reader.train_names == ["data/0001/000002", "data/0001/000003"]
    assert reader.test_names == [NAME]


def test_a_list_in_the_releases_form_is_understood(folder: Path) -> None:
    given = folder / "mine.txt"
    given.write_text("0048/000001\ndata_syn/000003\n")
    reader = YcbReader(folder, OBJECTS, test_list=given)
    assert reader.test_names == ["data/0048/000001", "data_syn/000003"]


def test_training_frames_are_told_apart_by_kind(folder: Path) -> None:
    reader = YcbReader(folder, OBJECTS)
    assert reader.real_train_names == [NAME]
    assert reader.synthetic_train_names == ["data_syn/000000"]


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
    assert reader.real_train_names == [
        f"data/{n}" for n in ("0000/000001", "0000/000008", "0001/000001")
    ]
    assert reader.synthetic_train_names == ["data_syn/000002", "data_syn/000005"]


def test_a_fifth_of_the_drawn_frames_is_real(folder: Path) -> None:
    reader = YcbReader(folder, OBJECTS)
    rng = np.random.RandomState(0)
    real = [reader.draw(rng) == NAME for _ in range(2000)]
    assert np.mean(real) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("only", ["data/0001/000001", "data_syn/000001"])
def test_with_one_kind_of_frames_only_these_are_drawn(folder: Path, only: str) -> None:
    write_ycb_lists(folder, [only], [NAME])
    rng = np.random.RandomState(0)
    assert {YcbReader(folder, OBJECTS).draw(rng) for _ in range(20)} == {only}


def test_the_authors_lists_are_known_by_their_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["data/0048/000001", "data/0048/000036"]
    checksum = zlib.crc32(b"data/0048/000001\ndata/0048/000036")
    facts = {"lists": {"test": {"lines": 2, "crc32": checksum}}}
    monkeypatch.setattr(ycb, "resource", lambda name: facts)
    assert is_authors_list(lines, "test")
    assert not is_authors_list(lines[::-1], "test")
    assert not is_authors_list(lines[:1], "test")


def test_a_reader_travels_to_worker_processes(folder: Path) -> None:
    reader = pickle.loads(pickle.dumps(YcbReader(folder, OBJECTS)))
    assert reader.read(NAME).name == NAME


def test_a_missing_root_shows_the_expected_tree(tmp_path: Path) -> None:
    error = refused(tmp_path / "nowhere", "nowhere: it does not exist")
    assert "data/SSSS/FFFFFF-" in error.hint


def test_a_root_without_the_data_set_shows_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "cat_pictures").mkdir()
    error = refused(tmp_path, "found cat_pictures")
    assert "data/SSSS/FFFFFF-" in error.hint


def test_an_empty_root_is_said_to_hold_nothing(tmp_path: Path) -> None:
    refused(tmp_path, "found nothing")


def test_missing_lists_are_named(tmp_path: Path) -> None:
    write_ycb_frame(tmp_path, NAME, **flat_scene())
    reader = YcbReader(tmp_path, OBJECTS)
    with pytest.raises(
        UserError,
        match=r"no list of train frames: .*train_data_list.txt nor .*train.txt; found data",
    ) as caught:
        _ = reader.train_names
    assert "image_sets" in caught.value.hint


def test_a_test_needs_no_training_list(folder: Path) -> None:
    (folder / "dataset_config/train_data_list.txt").unlink()
    assert YcbReader(folder, OBJECTS).test_names


def test_the_summary_says_whose_lists_are_used(folder: Path) -> None:
    assert "(not the authors' list)" in YcbReader(folder, OBJECTS).summary()


def test_a_given_list_that_is_missing_is_named(folder: Path) -> None:
    reader = YcbReader(folder, OBJECTS, train_list=folder / "gone.txt")
    with pytest.raises(UserError, match=r"cannot read the list .*gone.txt: No such"):
        _ = reader.train_names


def test_an_empty_list_is_named(folder: Path) -> None:
    (folder / "dataset_config/test_data_list.txt").write_text("\n\n")
    with pytest.raises(UserError, match=r"test_data_list.txt is empty"):
        _ = YcbReader(folder, OBJECTS).test_names


@pytest.mark.parametrize("part", ["color.png", "depth.png", "label.png", "meta.mat"])
def test_a_missing_file_of_a_frame_is_named(folder: Path, part: str) -> None:
    (folder / f"{NAME}-{part}").unlink()
    refused(folder, rf"no .*{NAME}-{part}")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.7])
@pytest.mark.parametrize("part", ["color.png", "depth.png", "label.png", "meta.mat"])
def test_a_truncated_file_is_named(folder: Path, part: str, share: float) -> None:
    path = folder / f"{NAME}-{part}"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(folder, rf"{NAME}-{part}")


@pytest.mark.parametrize("part", ["depth", "label"])
def test_pictures_of_different_sizes_are_named_with_their_sizes(folder: Path, part: str) -> None:
    path = folder / f"{NAME}-{part}.png"
    Image.fromarray(np.zeros((32, 64), np.uint8)).save(path)
    refused(folder, rf"differ in size: .*{NAME}-color.png 64 x 64.*{part}.png 32 x 64")


def test_depth_with_colours_is_refused(folder: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / f"{NAME}-depth.png")
    refused(folder, rf"{NAME}-depth.png has shape \(64, 64, 3\)")


@pytest.mark.parametrize("field", ["cls_indexes", "poses", "factor_depth"])
def test_a_meta_file_that_lacks_a_field_is_named_with_what_it_has(folder: Path, field: str) -> None:
    meta = {"cls_indexes": [[1]], "poses": np.eye(3, 4)[..., None], "factor_depth": 10000}
    del meta[field]
    savemat(folder / f"{NAME}-meta.mat", meta)
    refused(folder, rf"meta.mat lacks {field} \(it has ")


def test_a_meta_file_without_a_camera_is_refused_where_it_is_needed(folder: Path) -> None:
    refused(folder, "meta.mat lacks intrinsic_matrix", intrinsics="meta")


@pytest.mark.parametrize("class_id", [0, 22])
def test_class_ids_outside_the_set_are_named(folder: Path, class_id: int) -> None:
    write_ycb_frame(folder, NAME, **flat_scene() | {"cls_indexes": np.array([class_id])})
    error = refused(folder, rf"meta.mat: class id {class_id} is outside 1 … 21")
    assert "ycb has 21 classes" in error.hint


def test_labels_outside_the_set_are_named(folder: Path) -> None:
    scene = flat_scene()
    scene["label"][0, 0] = 99
    write_ycb_frame(folder, NAME, **scene)
    refused(folder, r"label.png: class id 99 is outside 0 … 21")


def test_a_pose_that_is_no_number_is_named(folder: Path) -> None:
    scene = flat_scene()
    scene["poses"][0, 3, 0] = np.nan
    write_ycb_frame(folder, NAME, **scene)
    refused(folder, r"meta.mat: a pose contains NaN")


def test_poses_that_do_not_match_the_classes_are_named(folder: Path) -> None:
    write_ycb_frame(folder, NAME, **flat_scene() | {"cls_indexes": np.array([1, 2])})
    refused(folder, r"meta.mat: poses have shape \(3, 4.*\) for 2 objects")


@pytest.mark.parametrize("factor", [0, -1, np.nan])
def test_a_depth_scale_that_is_none_is_named(folder: Path, factor: float) -> None:
    write_ycb_frame(folder, NAME, **flat_scene(), factor_depth=factor)
    refused(folder, "meta.mat: factor_depth is")


def write_meshes(folder: Path, scale: float) -> None:
    for row, name in enumerate(OBJECTS.names):
        path = folder / "models" / name / "points.xyz"
        path.parent.mkdir(parents=True)
        np.savetxt(path, OBJECTS.keypoints[row] * scale)


def test_mesh_points_are_read_by_class_id(tmp_path: Path) -> None:
    write_meshes(tmp_path, 1.0)
    meshes = read_xyz_meshes(tmp_path, OBJECTS)
    assert list(meshes) == list(range(1, 22))
    np.testing.assert_allclose(meshes[5], OBJECTS.keypoints[4], rtol=1e-6)


def test_meshes_in_millimetres_are_refused(tmp_path: Path) -> None:
    write_meshes(tmp_path, 1000.0)
    with pytest.raises(UserError, match=r"points.xyz: the mesh is .* long") as raised:
        read_xyz_meshes(tmp_path, OBJECTS)
    assert raised.value.hint == "divide the vertices by 1000 if their unit is not metres"


def test_meshes_far_too_small_are_refused(tmp_path: Path) -> None:
    write_meshes(tmp_path, 0.001)
    with pytest.raises(UserError, match="the mesh is"):
        read_xyz_meshes(tmp_path, OBJECTS)


def test_a_missing_mesh_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no mesh vertices .*002_master_chef_can/points.xyz"):
        read_xyz_meshes(tmp_path, OBJECTS)


@pytest.mark.parametrize("content", ["1 2\n3 4\n", "a b c\n", "1 2 nan\n"])
def test_a_mesh_that_is_not_rows_of_three_is_named(tmp_path: Path, content: str) -> None:
    write_meshes(tmp_path, 1.0)
    (tmp_path / "models" / OBJECTS.names[0] / "points.xyz").write_text(content)
    with pytest.raises(UserError, match=r"002_master_chef_can/points.xyz"):
        read_xyz_meshes(tmp_path, OBJECTS)
