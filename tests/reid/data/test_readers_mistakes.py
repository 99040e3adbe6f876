"""Errors and notes of the readers about datasets that are incomplete or wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ffreid.errors import UserError
from ffreid.reid.data.readers import READERS
from ffreid.reid.datasets import DATASETS
from tests.reid import dataset_trees

SPLITS = [
    ("ltcc", "LTCC_ReID/test"),
    ("prcc", "prcc/rgb/val"),
    ("prcc", "prcc/rgb/test/C"),
    ("vcclothes", "VC-Clothes/query"),
    ("vcclothes_cc", "VC-Clothes/gallery"),
    ("last", "last/val/gallery"),
    ("deepchange", "DeepChangeDataset/test-set-query"),
    ("market1501", "query"),
]
DEEPCHANGE_LIST = "DeepChangeDataset/test-set-query-bbox.txt"


def error_of(name: str, root: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        READERS[name](root)
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", READERS)
def test_a_wrong_root_is_an_error_with_the_expected_layout(name: str, tmp_path: Path) -> None:
    missing = error_of(name, tmp_path / "missing")
    assert "missing: it does not exist" in missing.message
    (tmp_path / "holiday").mkdir()
    other = error_of(name, tmp_path)
    assert "found holiday" in other.message
    assert DATASETS[name].tree in missing.hint and DATASETS[name].tree in other.hint


@pytest.mark.parametrize(("name", "path"), SPLITS)
def test_a_missing_or_empty_split_is_an_error(name: str, path: str, tmp_path: Path) -> None:
    folder = dataset_trees.build(name, tmp_path) / path
    shutil.rmtree(folder)
    missing = error_of(name, tmp_path)
    assert f"no folder {folder}" in missing.message
    folder.mkdir()
    empty = error_of(name, tmp_path)
    assert DATASETS[name].tree in missing.hint
    if name != "deepchange":  # its lists name the images
        assert f"image in {folder}: found nothing" in empty.message
        assert DATASETS[name].tree in empty.hint


@pytest.mark.parametrize(
    ("name", "path"),
    [("deepchange", "DeepChangeDataset/train-set-bbox.txt"), ("ccvid", "CCVID/gallery.txt")],
)
def test_a_missing_or_empty_list_is_an_error(name: str, path: str, tmp_path: Path) -> None:
    file = dataset_trees.build(name, tmp_path) / path
    file.unlink()
    missing = error_of(name, tmp_path)
    assert f"no list {file}" in missing.message
    assert DATASETS[name].tree in missing.hint
    file.write_text("\n\n")
    assert f"the list {file} is empty" in error_of(name, tmp_path).message


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ltcc", "LTCC_ReID/train/copy {}.png"),
        ("prcc", "prcc/rgb/train/001/copy {}.jpg"),
        ("vcclothes", "VC-Clothes/gallery/copy {}.jpg"),
        ("last", "last/train/000000/copy {}.jpg"),
        ("last", "last/test/query/copy {}.jpg"),
        ("market1501", "bounding_box_test/copy {}.jpg"),
    ],
)
def test_the_first_five_names_that_cannot_be_parsed_are_listed(
    name: str, path: str, tmp_path: Path
) -> None:
    dataset_trees.build(name, tmp_path)
    for letter in "gfedcba":
        (tmp_path / path.format(letter)).touch()
    error = error_of(name, tmp_path)
    five = ", ".join(Path(path.format(letter)).name for letter in "abcde")
    assert f"cannot parse 7 names: {five}, …" in error.message
    assert Path(path).suffix in error.hint


def test_a_folder_of_prcc_without_identity_is_an_error(tmp_path: Path) -> None:
    dataset_trees.build("prcc", tmp_path)
    dataset_trees.write(tmp_path, {}, ["prcc/rgb/test/B/more/A_1.jpg"])
    assert "cannot parse 1 name: more" in error_of("prcc", tmp_path).message


@pytest.mark.parametrize(
    ("name", "path", "line", "message"),
    [
        ("deepchange", DEEPCHANGE_LIST, "P400_C17.jpg,15", "cannot parse 1 name: P400_C17.jpg,15"),
        ("deepchange", DEEPCHANGE_LIST, "P1_C1_2_3_4_5.jpg", "cannot parse 1 name: P1_C1_2_3_4_5"),
        ("ccvid", "CCVID/train.txt", "session1/001_01 001", "cannot parse 1 name: 001_01 001"),
        ("ccvid", "CCVID/train.txt", "session1/001 001 u0_l0", "cannot parse 1 name: 001 001 u0"),
        ("ltcc", "LTCC_ReID/info/cloth-change_id_test.txt", "four", "'four' is not an identity"),
    ],
)
def test_a_line_that_cannot_be_parsed_is_an_error(
    name: str, path: str, line: str, message: str, tmp_path: Path
) -> None:
    dataset_trees.build(name, tmp_path)
    with (tmp_path / path).open("a") as file:
        file.write(line + "\n")
    error = error_of(name, tmp_path)
    assert message in error.message
    assert name == "ltcc" or str(tmp_path / path) in error.message


@pytest.mark.parametrize(
    ("name", "path", "identity", "split"),
    [
        ("ltcc", "LTCC_ReID/query/005_1_c1_1.png", "005", "query"),
        ("ltcc", "LTCC_ReID/test/012_1_c1_1.png", "012", "test"),
        ("prcc", "prcc/rgb/test/C/001/x.jpg", "001", "test"),
        ("vcclothes", "VC-Clothes/query/0009-01-01-01.jpg", "0009", "query"),
        ("vcclothes_sc", "VC-Clothes/gallery/0009-01-01-01.jpg", "0009", "gallery"),
        ("last", "last/val/query/000003_1_1.jpg", "000003", "val"),
        ("last", "last/test/gallery/000003/000003_1_1.jpg", "000003", "test"),
        ("market1501", "query/0007_c1s1_1.jpg", "0007", "query"),
        ("deepchange", "DeepChangeDataset/val-set-gallery/P10_C1_20200102_08_1_0.jpg", "10", "val"),
        ("ccvid", "CCVID/session2/012_01/00001.jpg", "012", "query"),
    ],
)
def test_a_training_identity_in_another_split_is_an_error(
    name: str, path: str, identity: str, split: str, tmp_path: Path
) -> None:
    dataset_trees.build(name, tmp_path)
    dataset_trees.write(tmp_path, {}, [path])
    lists = {
        "deepchange": ("DeepChangeDataset/val-set-gallery-bbox.txt", f"{Path(path).name},9\n"),
        "ccvid": ("CCVID/query.txt", "session2/012_01 012 u0\r\n"),
    }
    if name in lists:
        with (tmp_path / lists[name][0]).open("a") as file:
            file.write(lists[name][1])
    error = error_of(name, tmp_path)
    assert error.message == f"in train and in {split}: 1 identity: {identity}"


def test_missing_images_of_a_list_are_an_error_or_skipped_as_broken(tmp_path: Path) -> None:
    complete = READERS["deepchange"](dataset_trees.build("deepchange", tmp_path))
    names = [
        "train-set/P2_C7_20190301_12_90815_0.jpg",
        "val-set-gallery/P7_C17_20190301_17_17192_0.jpg",
    ]
    (tmp_path / "DeepChangeDataset" / names[0]).unlink()
    error = error_of("deepchange", tmp_path)
    assert f"train-set-bbox.txt lists 1 file: {names[0]}" in error.message
    assert "set DATA.SKIP_BROKEN True" in error.hint
    (tmp_path / "DeepChangeDataset" / names[1]).unlink()
    source = READERS["deepchange"](tmp_path, skip_broken=True)
    assert source.notes == (*complete.notes, f"missing: 2 files: {', '.join(names)}")
    assert (source.train, source.val) == (complete.train, complete.val)


def test_incomplete_tracklets_are_errors(tmp_path: Path) -> None:
    folder = dataset_trees.build("ccvid", tmp_path) / "CCVID/session1/001_04"
    frames = sorted(folder.iterdir())
    frames[0].unlink()
    frames[4].unlink()
    assert len(READERS["ccvid"](tmp_path).test.gallery[0].frames) == 3
    frames[2].unlink()
    error = error_of("ccvid", tmp_path)
    assert f"the tracklet {folder} lacks 1 frame: 3" in error.message
    source = READERS["ccvid"](tmp_path, skip_broken=True)
    assert "frames are missing in 1 tracklet: session1/001_04" in source.notes
    frames[1].unlink()
    frames[3].unlink()
    error = error_of("ccvid", tmp_path)
    assert f"the tracklet {folder} contains no image" in error.message
    assert "gallery.txt" in error.hint
    folder.rmdir()
    error = error_of("ccvid", tmp_path)
    assert f"gallery.txt lists session1/001_04, but there is no {tmp_path}" in error.message


def test_vcclothes_without_images_of_the_two_cameras_is_an_error(tmp_path: Path) -> None:
    dataset_trees.build("vcclothes", tmp_path)
    for path in (tmp_path / "VC-Clothes/query").glob("????-0[23]-*"):
        path.unlink()
    assert "no image of the cameras 2, 3" in error_of("vcclothes_sc", tmp_path).message


TRAIN = {
    "prcc": ["prcc/rgb/train"],
    "ccvid": ["CCVID/train.txt"],
    "deepchange": ["DeepChangeDataset/train-set", "DeepChangeDataset/train-set-bbox.txt"],
    "market1501": ["bounding_box_train"],
    "ltcc": ["LTCC_ReID/train"],
    "last": ["last/train"],
    "vcclothes": ["VC-Clothes/train"],
}


@pytest.mark.parametrize("name", TRAIN)
def test_the_training_split_can_be_left_out_for_an_evaluation(name: str, tmp_path: Path) -> None:
    complete = READERS[name](dataset_trees.build(name, tmp_path))
    for path in TRAIN[name]:
        (tmp_path / path).rename(tmp_path / f"{path}-away")
    source = READERS[name](tmp_path)
    assert (source.train, source.test) == ((), complete.test)
    assert source.notes[-1].startswith("there are no training images")
    if name not in ("ccvid", "deepchange"):  # the others need a folder, here of another name
        assert [note.endswith("-away") for note in source.notes if "training images are in" in note]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("ltcc", "LTCC_ReID/test"),
        ("prcc", "prcc/rgb/test/A/004"),
        ("vcclothes", "VC-Clothes/train"),
        ("last", "last/val/gallery/005001"),
        ("market1501", "bounding_box_test"),
        ("ccvid", "CCVID/session1/001_04"),
    ],
)
def test_files_that_are_passed_over_are_counted(name: str, folder: str, tmp_path: Path) -> None:
    complete = READERS[name](dataset_trees.build(name, tmp_path))
    for file in ("a.heic", "b", "c.svg", "deeper/1.jpg", ".hidden.heic", "sizes.txt"):
        dataset_trees.write(tmp_path / folder, {}, [file])
    source = READERS[name](tmp_path)
    inside = folder.partition("/")[2] if "/" in folder and name != "market1501" else folder
    assert source.notes == (
        *complete.notes,
        f"not read (unknown suffix): 3 files: {inside}/a.heic, {inside}/b, {inside}/c.svg",
        f"not read (too deep): 1 folder: {inside}/deeper",
    )
    assert (source.train, source.test) == (complete.train, complete.test)
    (tmp_path / folder / "00009.jpg").symlink_to("00009.jpg")
    error = error_of(name, tmp_path)
    assert f"links to nowhere, or no files: 1 name: {inside}/00009.jpg" in error.message
    skipped = READERS[name](tmp_path, skip_broken=True)
    assert skipped.test == complete.test
    assert f"not read (links to nowhere, or no files): 1 name: {inside}/00009.jpg" in skipped.notes


def test_images_beside_the_folders_of_identities_are_counted(tmp_path: Path) -> None:
    dataset_trees.build("prcc", tmp_path)
    dataset_trees.write(tmp_path, {}, ["prcc/rgb/train/A_1.jpg"])
    note = "not read (not in a folder of an identity): 1 file: rgb/train/A_1.jpg"
    assert note in READERS["prcc"](tmp_path).notes


@pytest.mark.parametrize(
    "form", ["{:04d}_c{}0s1_01_00.jpg", "{:05d}_c{}s1_01.png", "{:04d}_c{}_f01.jpeg", "{}_c{}.bmp"]
)
def test_own_images_may_be_named_as_those_of_market1501(form: str, tmp_path: Path) -> None:
    dataset_trees.build("market1501", tmp_path)
    images = [f"bounding_box_train/{form.format(9, camera)}" for camera in (1, 2)]
    source = READERS["market1501"](dataset_trees.write(tmp_path, {}, images))
    cameras = [r.camera for r in source.train if r.frames[0] in images]
    assert cameras == ([9, 19] if "0s1" in form else [0, 1])
    dataset_trees.write(tmp_path, {}, ["query/anna.jpg"])
    assert "--dataset folder" in error_of("market1501", tmp_path).hint


@pytest.mark.parametrize(
    ("name", "path", "edit"),
    [
        (name, path, edit)
        for name, path in [
            ("deepchange", DEEPCHANGE_LIST),
            ("ccvid", "CCVID/query.txt"),
            ("ltcc", "LTCC_ReID/info/cloth-change_id_test.txt"),
        ]
        for edit in (
            lambda text: "\ufeff" + text.replace("\n", "\r\n"),
            lambda text: "".join(f'"{line}" \n' for line in text.splitlines()),
            lambda text: text.replace("/", "\\"),
            lambda text: "\u200b" + text,
        )
    ],
)
def test_lists_may_come_from_other_systems(
    name: str, path: str, edit: Callable[[str], str], tmp_path: Path
) -> None:
    expected = READERS[name](dataset_trees.build(name, tmp_path))
    file = tmp_path / path
    text = edit(file.read_text("utf-8"))
    file.write_text(text, "utf-8", newline="")
    assert READERS[name](tmp_path) == expected
    file.write_text(text, "utf-16")
    assert READERS[name](tmp_path) == expected


def test_labels_that_fit_in_no_tensor_are_refused(tmp_path: Path) -> None:
    folder = dataset_trees.build("ltcc", tmp_path) / "LTCC_ReID/query"
    shutil.copy(next(folder.iterdir()), folder / f"{'9' * 25}_1_c1_000001.png")
    assert f"cannot parse 1 name: {'9' * 25}_1" in error_of("ltcc", tmp_path).message


def test_frames_far_apart_are_counted_without_being_listed(tmp_path: Path) -> None:
    folder = dataset_trees.build("ccvid", tmp_path) / "CCVID/session1/001_04"
    shutil.copy(next(folder.iterdir()), folder / f"{10**30}.jpg")
    message = error_of("ccvid", tmp_path).message
    assert f"lacks {10**30 - dataset_trees.FRAMES - 1} frames: 6, 7, 8, 9, 10, …" in message
