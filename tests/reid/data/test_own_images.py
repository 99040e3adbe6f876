"""Queries whose own image is in the gallery are found, in every dataset."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ffreid.reid.data.own_images import own_image_notes, own_images, seen_in_training
from ffreid.reid.data.readers import READERS
from ffreid.reid.dataset_report import report_dataset
from tests.reid import dataset_trees

# A query's file and one of the gallery that is a match of it.
FILES = {
    "ltcc": ("LTCC_ReID/query/003_1_c9_018487.png", "LTCC_ReID/test/003_1_c10_005148.png"),
    "prcc": ("prcc/rgb/test/B/004/cropped_rgb333.jpg", "prcc/rgb/test/A/004/cropped_rgb351.jpg"),
    "vcclothes": ("VC-Clothes/query/0300-01-02-12.jpg", "VC-Clothes/gallery/0300-03-01-04.jpg"),
    "vcclothes_sc": ("VC-Clothes/query/0300-02-01-02.jpg", "VC-Clothes/gallery/0300-03-01-04.jpg"),
    "vcclothes_cc": ("VC-Clothes/query/0411-03-01-08.jpg", "VC-Clothes/gallery/0411-04-03-08.jpg"),
    "last": (
        "last/test/query/005100_187_01251.jpg",
        "last/test/gallery/005100/005100_014_06893.jpg",
    ),
    "deepchange": (
        "DeepChangeDataset/test-set-query/P400_C17_20190301_09_99370_0.jpg",
        "DeepChangeDataset/test-set-gallery/P400_C5_20190715_12_99828_0.jpg",
    ),
    "market1501": ("query/0001_c1s1_001051_00.jpg", "bounding_box_test/0001_c2s1_001976_01.jpg"),
    "ccvid": ("CCVID/session3/001_11/00003.jpg", "CCVID/session2/001_02/00001.jpg"),
    "folder": ("c/1.jpg", "c/2.jpg"),
}
JUNK = {
    "ltcc": ("LTCC_ReID/query/044_1_c6_028023.png", "LTCC_ReID/test/044_2_c6_021175.png"),
    "vcclothes": ("VC-Clothes/query/0300-01-02-12.jpg", "VC-Clothes/gallery/0300-01-02-01.jpg"),
}
"""Files of one camera, which is excluded."""
WAYS: dict[str, Callable[[Path, Path], object]] = {
    "copied": shutil.copy,
    "linked": lambda query, item: item.symlink_to(query),
    "hard-linked": lambda query, item: os.link(query, item),
}


def in_gallery(name: str, root: Path, files: tuple[str, str], way: str) -> dict[str, str]:
    """Own images of a dataset of which a gallery file was replaced by the query's."""
    dataset_trees.fill(dataset_trees.build(name, root), 8, 8)
    query, item = (root / file for file in files)
    item.unlink()
    WAYS[way](query, item)
    source = READERS[name](root)
    return own_images(source.test, source)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_an_own_image_that_counts_as_a_match_is_found(name: str, way: str, tmp_path: Path) -> None:
    found = in_gallery(name, tmp_path, FILES[name], way)
    assert len(found) == 1
    for path, file in zip(*found.items(), FILES[name], strict=True):
        assert str(Path(file).parent if name == "ccvid" else file).endswith(path)
    (note,) = own_image_notes(found, 2)
    assert note.startswith("1 of 2 queries find their own image in the gallery")


@pytest.mark.parametrize("name", READERS)
def test_sound_data_have_no_own_images(name: str, tmp_path: Path) -> None:
    dataset_trees.fill(dataset_trees.build(name, tmp_path), 8, 8)
    source = READERS[name](tmp_path)
    assert own_images(source.test, source) == {}
    assert own_image_notes({}, 2) == []
    assert seen_in_training(source) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_a_test_image_among_those_of_training_is_noted(name: str, way: str, tmp_path: Path) -> None:
    dataset_trees.fill(dataset_trees.build(name, tmp_path), 8, 8)
    source = READERS[name](tmp_path)
    trained = source.train[-1].frames[0]
    (source.folder / trained).unlink()
    WAYS[way](tmp_path / FILES[name][0], source.folder / trained)
    assert [note.partition(" query")[0] for note in seen_in_training(source)] == [
        f"1 of {len(source.test.query + source.test.gallery)}"
    ]
    assert seen_in_training(source)[0].endswith(f" = {trained}")
    assert seen_in_training(source)[0] in report_dataset(name, source, None)["notes"]
    assert bool(seen_in_training(source, most_read=0)) == (way != "copied")


@pytest.mark.parametrize("name", JUNK)
def test_an_own_image_of_the_same_camera_is_junk(name: str, tmp_path: Path) -> None:
    assert in_gallery(name, tmp_path, JUNK[name], "copied") == {}


@pytest.mark.parametrize(
    ("spelling", "camera", "count"),
    [("c/1.jpg", "yard", 1), ("c/../c/1.jpg", "yard", 1), ("c/1.jpg", "door", 0)],
)
def test_a_file_that_is_listed_again_is_its_own_match_under_another_camera(
    spelling: str, camera: str, count: int, tmp_path: Path
) -> None:
    dataset_trees.fill(dataset_trees.build("folder", tmp_path), 8, 8)
    with (tmp_path / "records.csv").open("a") as file:
        file.write(f"{spelling},10,{camera},black,gallery\n")
    source = READERS["folder"](tmp_path)
    assert len(own_images(source.test, source)) == count


def test_empty_files_are_not_equal_and_few_files_are_read_for_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = READERS["ltcc"](dataset_trees.build("ltcc", tmp_path))
    assert own_images(source.test, source) == {}
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"the same")
    assert len(own_images(source.test, source)) == 2
    assert own_images(source.test, source, most_read=0) == {}
    assert any("at least 2 of 2" in note for note in report_dataset("ltcc", source, None)["notes"])
    assert "note: at least 2 of 2 queries find their own image" in capsys.readouterr().err
