"""What the readers say of data sets that are incomplete or wrong."""

import shutil
from pathlib import Path

import pytest

from ffreid.errors import UserError
from ffreid.reid.data.readers import READERS, ccvid
from ffreid.reid.datasets import DATASETS
from tests.reid import dataset_trees

SPLIT_FOLDERS = [
    ("ltcc", "LTCC_ReID/test"),
    ("prcc", "prcc/rgb/train"),
    ("prcc", "prcc/rgb/test/C"),
    ("vcclothes", "VC-Clothes/query"),
    ("vcclothes_cc", "VC-Clothes/gallery"),
    ("last", "last/val/gallery"),
    ("deepchange", "DeepChangeDataset/test-set-query"),
    ("market1501", "query"),
]
LISTS = [("deepchange", "DeepChangeDataset/train-set-bbox.txt"), ("ccvid", "CCVID/gallery.txt")]
STRANGE = [
    ("ltcc", "LTCC_ReID/train", ".png"),
    ("prcc", "prcc/rgb/train/001", ".jpg"),
    ("vcclothes", "VC-Clothes/gallery", ".jpg"),
    ("last", "last/train/000000", ".jpg"),
    ("last", "last/test/query", ".jpg"),
    ("market1501", "bounding_box_test", ".jpg"),
]


def mistake(name: str, root: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        READERS[name](root)
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", READERS)
def test_a_missing_root_is_told_with_the_expected_tree(name: str, tmp_path: Path) -> None:
    error = mistake(name, tmp_path / "nowhere")
    assert "nowhere: it does not exist" in error.message
    assert DATASETS[name].tree in error.hint


@pytest.mark.parametrize("name", READERS)
def test_another_folder_is_told_with_what_it_holds(name: str, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    error = mistake(name, tmp_path)
    assert "found holiday" in error.message
    assert DATASETS[name].tree in error.hint


@pytest.mark.parametrize(("name", "part"), SPLIT_FOLDERS)
def test_a_missing_split_is_named(name: str, part: str, tmp_path: Path) -> None:
    dataset_trees.build(name, tmp_path)
    shutil.rmtree(tmp_path / part)
    error = mistake(name, tmp_path)
    assert f"no folder {tmp_path / part}" in error.message
    assert DATASETS[name].tree in error.hint


@pytest.mark.parametrize(
    ("name", "part"), [case for case in SPLIT_FOLDERS if case[0] != "deepchange"]
)
def test_an_empty_split_is_named(name: str, part: str, tmp_path: Path) -> None:
    dataset_trees.build(name, tmp_path)
    shutil.rmtree(tmp_path / part)
    (tmp_path / part).mkdir()
    error = mistake(name, tmp_path)
    assert f"image in {tmp_path / part}: found nothing" in error.message
    assert DATASETS[name].tree in error.hint


@pytest.mark.parametrize(("name", "path"), LISTS)
def test_a_missing_list_is_named(name: str, path: str, tmp_path: Path) -> None:
    dataset_trees.build(name, tmp_path)
    (tmp_path / path).unlink()
    error = mistake(name, tmp_path)
    assert f"no list {tmp_path / path}" in error.message
    assert DATASETS[name].tree in error.hint


@pytest.mark.parametrize(("name", "path"), LISTS)
def test_an_empty_list_is_named(name: str, path: str, tmp_path: Path) -> None:
    dataset_trees.build(name, tmp_path)
    (tmp_path / path).write_text("\n\n")
    assert f"the list {tmp_path / path} is empty" in mistake(name, tmp_path).message


@pytest.mark.parametrize(("name", "part", "suffix"), STRANGE)
def test_of_names_that_do_not_parse_five_are_named_and_all_counted(
    name: str, part: str, suffix: str, tmp_path: Path
) -> None:
    dataset_trees.build(name, tmp_path)
    for letter in "gfedcba":
        (tmp_path / part / f"copy {letter}{suffix}").touch()
    error = mistake(name, tmp_path)
    five = ", ".join(f"copy {letter}{suffix}" for letter in "abcde")
    assert f"cannot parse 7 names: {five}, …" in error.message
    assert suffix in error.hint


@pytest.mark.parametrize("part", ["train", "val", "test/B"])
def test_a_folder_of_prcc_that_is_no_person_is_named(part: str, tmp_path: Path) -> None:
    dataset_trees.build("prcc", tmp_path)
    dataset_trees.write(
        tmp_path, {}, [f"prcc/rgb/{part}/more/A_1.jpg", f"prcc/rgb/{part}/more/A_2.jpg"]
    )
    assert "cannot parse 1 name: more" in mistake("prcc", tmp_path).message


@pytest.mark.parametrize(
    ("name", "path", "line"),
    [
        ("deepchange", "DeepChangeDataset/test-set-query-bbox.txt", "P400_C17.jpg,15"),
        ("deepchange", "DeepChangeDataset/test-set-query-bbox.txt", "P1_C1_2_3_4_5.jpg"),
        ("ccvid", "CCVID/train.txt", "session1/001_01 001"),
        ("ccvid", "CCVID/train.txt", "session1/001 001 u0_l0"),
    ],
)
def test_a_line_that_does_not_parse_is_named(
    name: str, path: str, line: str, tmp_path: Path
) -> None:
    dataset_trees.build(name, tmp_path)
    with (tmp_path / path).open("a") as file:
        file.write(line + "\n")
    error = mistake(name, tmp_path)
    assert f"{tmp_path / path}: cannot parse 1 name: {line.rpartition('/')[2]}" in error.message


@pytest.mark.parametrize(
    ("name", "path", "culprit", "split"),
    [
        ("ltcc", "LTCC_ReID/query/005_1_c1_1.png", "005", "query"),
        ("ltcc", "LTCC_ReID/test/012_1_c1_1.png", "012", "test"),
        ("prcc", "prcc/rgb/test/C/001/x.jpg", "001", "test"),
        ("vcclothes", "VC-Clothes/query/0009-01-01-01.jpg", "0009", "query"),
        ("vcclothes_sc", "VC-Clothes/gallery/0009-01-01-01.jpg", "0009", "gallery"),
        ("last", "last/val/query/000003_1_1.jpg", "000003", "val"),
        ("last", "last/test/gallery/000003/000003_1_1.jpg", "000003", "test"),
        ("market1501", "query/0007_c1s1_1.jpg", "0007", "query"),
    ],
)
def test_a_training_identity_in_another_split_is_named(
    name: str, path: str, culprit: str, split: str, tmp_path: Path
) -> None:
    dataset_trees.build(name, tmp_path)
    dataset_trees.write(tmp_path, {}, [path])
    error = mistake(name, tmp_path)
    assert error.message == f"in train and in {split}: 1 identity: {culprit}"


def test_a_training_identity_in_another_list_is_named(tmp_path: Path) -> None:
    texts, pictures = dataset_trees.contents("ccvid")
    texts["CCVID/query.txt"] += "session2/012_01 012 u0\r\n"
    dataset_trees.write(tmp_path, texts, pictures)
    assert "in train and in query: 1 identity: 012" in mistake("ccvid", tmp_path).message


def test_a_deepchange_identity_in_the_wrong_list_is_named(tmp_path: Path) -> None:
    texts, pictures = dataset_trees.contents("deepchange")
    name = "P10_C1_20200102_08_1_0.jpg"
    texts["DeepChangeDataset/val-set-gallery-bbox.txt"] += f"{name},9\n"
    dataset_trees.write(tmp_path, texts, [*pictures, f"DeepChangeDataset/val-set-gallery/{name}"])
    assert "in train and in val: 1 identity: 10" in mistake("deepchange", tmp_path).message


def test_listed_pictures_that_are_not_there_are_named(tmp_path: Path) -> None:
    dataset_trees.build("deepchange", tmp_path)
    name = "P2_C7_20190301_12_90815_0.jpg"
    (tmp_path / "DeepChangeDataset/train-set" / name).unlink()
    error = mistake("deepchange", tmp_path)
    assert "train-set-bbox.txt lists 1 file: train-set/" + name in error.message
    assert "set DATA.SKIP_BROKEN True" in error.hint


def test_listed_pictures_that_are_not_there_are_noted_where_broken_files_are_skipped(
    tmp_path: Path,
) -> None:
    whole = READERS["deepchange"](dataset_trees.build("deepchange", tmp_path))
    names = [
        "train-set/P2_C7_20190301_12_90815_0.jpg",
        "val-set-gallery/P7_C17_20190301_17_17192_0.jpg",
    ]
    for name in names:
        (tmp_path / "DeepChangeDataset" / name).unlink()
    source = READERS["deepchange"](tmp_path, skip_broken=True)
    assert source.notes == (*whole.notes, f"missing: 2 files: {', '.join(names)}")
    assert (source.train, source.val) == (whole.train, whole.val)


@pytest.mark.parametrize("name", [n for n in READERS if DATASETS[n].has_lists])
def test_a_complete_data_set_is_the_same_where_broken_files_are_skipped(
    name: str, tmp_path: Path
) -> None:
    whole = READERS[name](dataset_trees.build(name, tmp_path))
    assert READERS[name](tmp_path, skip_broken=True) == whole


def test_a_tracklet_without_a_folder_is_named(tmp_path: Path) -> None:
    dataset_trees.build("ccvid", tmp_path)
    shutil.rmtree(tmp_path / "CCVID/session1/005_02")
    error = mistake("ccvid", tmp_path)
    assert f"train.txt lists session1/005_02, but there is no {tmp_path}" in error.message


def test_an_empty_tracklet_is_named(tmp_path: Path) -> None:
    dataset_trees.build("ccvid", tmp_path)
    home = tmp_path / "CCVID/session1/001_04"
    shutil.rmtree(home)
    home.mkdir()
    error = mistake("ccvid", tmp_path)
    assert f"the tracklet {home} contains no image" in error.message
    assert "gallery.txt" in error.hint


def test_frames_missing_inside_a_tracklet_are_named(tmp_path: Path) -> None:
    dataset_trees.build("ccvid", tmp_path)
    home = tmp_path / "CCVID/session1/001_04"
    (home / "00002.jpg").unlink()
    (home / "00004.jpg").unlink()
    assert f"the tracklet {home} lacks 2 frames: 2, 4" in mistake("ccvid", tmp_path).message


def test_a_tracklet_that_lacks_frames_is_taken_where_broken_files_are_skipped(
    tmp_path: Path,
) -> None:
    dataset_trees.build("ccvid", tmp_path)
    (tmp_path / "CCVID/session1/001_04/00002.jpg").unlink()
    source = ccvid.read(tmp_path, skip_broken=True)
    assert "frames are missing in 1 tracklet: session1/001_04" in source.notes


def test_a_tracklet_may_start_and_end_anywhere(tmp_path: Path) -> None:
    dataset_trees.build("ccvid", tmp_path)
    home = tmp_path / "CCVID/session1/001_04"
    (home / "00001.jpg").unlink()
    (home / "00005.jpg").unlink()
    assert len(READERS["ccvid"](tmp_path).test.gallery[0].frames) == 3


def test_a_line_of_ltccs_list_that_is_no_identity_is_named(tmp_path: Path) -> None:
    dataset_trees.build("ltcc", tmp_path)
    (tmp_path / "LTCC_ReID/info/cloth-change_id_test.txt").write_text("3\nfour\n")
    assert "'four' is not an identity" in mistake("ltcc", tmp_path).message


def test_vcclothes_without_pictures_of_the_two_cameras_says_so(tmp_path: Path) -> None:
    dataset_trees.build("vcclothes", tmp_path)
    for path in (tmp_path / "VC-Clothes/query").glob("????-0[23]-*"):
        path.unlink()
    assert "no image of the cameras 2, 3" in mistake("vcclothes_sc", tmp_path).message
