"""The readers of the datasets on small trees in the original layouts."""

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ffreid.reid.data.readers import READERS
from ffreid.reid.data.records import Record, Source
from tests.reid import dataset_trees


def read(name: str, folder: Path) -> Source:
    return READERS[name](dataset_trees.build(name, folder))


def with_images(name: str, folder: Path, *images: str) -> Source:
    """Read a tree with some more images."""
    dataset_trees.build(name, folder)
    return READERS[name](dataset_trees.write(folder, {}, images))


def triples(records: Sequence[Record]) -> str:
    return " ".join(f"{r.identity}/{r.camera}/{r.clothes}" for r in records)


@pytest.mark.parametrize("name", READERS)
def test_a_dataset_is_read_from_its_folder_or_the_parent(name: str, tmp_path: Path) -> None:
    state = random.getstate()
    source = read(name, tmp_path)
    assert source.name == name
    records = source.train + source.test.query + source.test.gallery
    assert all((source.folder / frame).is_file() for r in records for frame in r.frames)
    assert READERS[name](source.folder) == source
    assert random.getstate() == state


@pytest.mark.parametrize(
    ("name", "variant"),
    [("ltcc", "LTCC"), ("prcc", "PRCC"), ("vcclothes", "VCClothes"), ("last", "LaST")],
)
def test_variants_of_the_folder_name_are_accepted(name: str, variant: str, tmp_path: Path) -> None:
    folder = read(name, tmp_path).folder.rename(tmp_path / variant)
    source = READERS[name](tmp_path)
    assert source.folder == folder
    assert str(folder) in source.summary()


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("ltcc", "my_cool_root"),
        ("vcclothes", "2022-01-02-03"),
        ("prcc", "A_1/B_2"),
        ("ccvid", "session3/9_9"),
    ],
)
def test_the_path_of_the_root_is_not_parsed(name: str, root: str, tmp_path: Path) -> None:
    expected, source = read(name, tmp_path / "root"), read(name, tmp_path / root)
    assert (source.train, source.test) == (expected.train, expected.test)


@pytest.mark.parametrize("name", READERS)
def test_the_order_does_not_depend_on_the_file_system(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read(name, tmp_path)
    scan = os.scandir

    @contextmanager
    def backwards(path: Path) -> Iterator[Any]:
        with scan(path) as entries:
            yield iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

    monkeypatch.setattr(os, "scandir", backwards)
    assert READERS[name](tmp_path) == source


@pytest.mark.parametrize("name", ["ltcc", "prcc", "vcclothes", "last", "market1501"])
def test_hidden_and_other_files_are_ignored(name: str, tmp_path: Path) -> None:
    source = read(name, tmp_path)
    folder = (source.folder / source.train[0].frames[0]).parent
    for stray in ("._hidden.jpg", "._hidden.png", "Thumbs.db", "notes.txt"):
        (folder / stray).touch()
    assert READERS[name](tmp_path) == source


# Training identities; training clothes; identity/camera/clothes in training; query; gallery.
LABELS = {
    "ltcc": """005 012 094; 005_1 012_10 012_2 094_1 094_2; 0/0/0 0/2/0 1/11/1 1/0/2 2/9/3 2/3/4;
        3/8/0 44/5/2; 3/9/0 3/10/1 44/3/2 44/5/3 150/9/4""",
    "prcc": """001 002; 001 001C 002 002C; 0/0/0 0/1/0 0/2/1 1/0/2 1/1/2 1/2/3;
        4/1/0 37/1/2 4/2/1 37/2/3; 4/0/0 4/0/0 37/0/2 37/0/2""",
    "vcclothes": """0001 0009; 000101 000102 000901; 0/0/0 0/2/1 1/1/2 1/3/2;
        300/0/1 300/1/0 411/2/2 411/3/3; 300/0/1 300/2/0 411/1/2 411/2/2 411/3/3""",
    # Of two cameras in the test, all in training.
    "vcclothes_sc": """0001 0009; 000101 000102 000901; 0/0/0 0/2/1 1/1/2 1/3/2;
        300/1/0 411/2/1; 300/2/0 411/1/1 411/2/1""",
    "vcclothes_cc": """0001 0009; 000101 000102 000901; 0/0/0 0/2/1 1/1/2 1/3/2;
        411/2/1 411/3/2; 300/2/0 411/2/1 411/3/2""",
    "last": """000000 000003; 000000_0 000000_1 000003_0; 0/0/0 0/1/1 1/2/2 1/3/2;
        5100/0/5100 5250/1/5250; 5100/2/5100 5250/3/5250 999999/4/999999""",
    # The clothes sort as text, P10... before P2..., the identities as numbers.
    "deepchange": """2 10; P1020200102 P220190301 P220191224; 1/1/0 0/2/1 0/3/2 0/3/2;
        400/15/0 400/16/2; 400/19/1 999/23/3""",
    "ccvid": """005 012; 005_u0_l0_s0_c0_a0 005_u1_l1_s0_c0_a0 012_u0_l0_s0_c0_a0;
        1/1/2 0/2/1 0/17/0; 1/23/0; 1/4/0 1/2/1""",
    # Text in sorted order, numbers by value.
    "folder": "anna ben; blue green red; 0/0/2 0/1/1 1/0/0; 1/0/0; 1/1/0 0/1/1",
    # Without images of unknown persons, with distractors.
    "market1501": "0002 0007; 0002 0007; 0/0/0 0/1/0 1/2/1; 1/0/1; 0/0/0 1/1/1",
}


@pytest.mark.parametrize("name", READERS)
def test_labels(name: str, tmp_path: Path) -> None:
    source = read(name, tmp_path)
    names = (" ".join(source.identities), " ".join(source.clothes))
    splits = (source.train, source.test.query, source.test.gallery)
    assert "; ".join([*names, *map(triples, splits)]) == " ".join(LABELS[name].split())
    assert source.columns == (("camera",) if name == "market1501" else ("camera", "clothes"))
    assert source.video == (name == "ccvid")


def test_prcc_clothes_are_numbered_by_identity_also_without_images_of_camera_c(
    tmp_path: Path,
) -> None:
    dataset_trees.build("prcc", tmp_path)
    (tmp_path / "prcc/rgb/test/C/004/cropped_rgb081.jpg").unlink()
    assert triples(READERS["prcc"](tmp_path).test.query[-1:]) == "37/2/3"


def test_prcc_single_shot_galleries_equal_the_recorded(tmp_path: Path) -> None:
    # With three images of the first identity and two of each other, as recorded.
    stems = ("004/cropped_rgb979", "113/cropped_rgb386", "113/cropped_rgb979")
    source = with_images("prcc", tmp_path, *(f"prcc/rgb/test/A/{stem}.jpg" for stem in stems))
    galleries = source.single_shot
    assert galleries[:5] == ((0, 3, 6), (2, 4, 5), (2, 3, 6), (1, 3, 5), (2, 4, 6))
    assert galleries[5:] == ((1, 3, 5), (2, 3, 6), (2, 3, 5), (0, 3, 6), (0, 4, 6))


@pytest.mark.parametrize(
    ("name", "labels", "protocols"),
    [
        ("prcc", "0/1/0 1/1/2 0/2/1; 0/0/0 1/0/2", ["SC", "CC"]),
        ("last", "5001/0/5001; 5001/1/5001 999999/2/999999", ["general"]),
        ("deepchange", "7/7/0 7/8/1; 7/11/0", ["general"]),
    ],
)
def test_validation_split(name: str, labels: str, protocols: list[str], tmp_path: Path) -> None:
    source = read(name, tmp_path)
    val = source.split("val")
    assert f"{triples(val.query)}; {triples(val.gallery)}" == labels
    assert source.protocol_names("val") == protocols


def test_vcclothes_labels_that_are_the_same_text_stay_different(tmp_path: Path) -> None:
    # '1' + '12' and '11' + '2'.
    stems = ("1-1-12-1", "11-1-2-1", "2-1-1-1")
    source = with_images("vcclothes", tmp_path, *(f"VC-Clothes/train/{s}.jpg" for s in stems))
    assert source.clothes[-3:] == ("112", "112", "21")
    assert source.clothes_of_identity().sum(axis=0).tolist() == [1] * len(source.clothes)


def test_ccvid_frames_are_in_order_of_their_numbers(tmp_path: Path) -> None:
    frames = read("ccvid", tmp_path).train[0].frames
    assert frames == tuple(f"session2/012_01/{n:05d}.jpg" for n in range(1, 6))
    folder = tmp_path / "CCVID/session2/012_01"
    for path in folder.iterdir():
        path.unlink()
    for number in range(8, 12):
        (folder / f"{number}.jpg").touch()
    frames = READERS["ccvid"](tmp_path).train[0].frames
    assert frames == tuple(f"session2/012_01/{n}.jpg" for n in range(8, 12))


@pytest.mark.parametrize(
    ("name", "protocol", "column", "query", "gallery"),
    [
        ("ltcc", "CC, listed identities", "identity", (3, 44), (3, 44)),
        ("prcc", "SC", "camera", (1,), (0,)),
        ("prcc", "CC", "camera", (2,), (0,)),
        ("vcclothes", "SC (cameras 2 and 3)", "camera", (1, 2), (1, 2)),
        ("vcclothes", "CC (cameras 3 and 4)", "camera", (2, 3), (2, 3)),
    ],
)
def test_filters_of_the_protocols(
    name: str, protocol: str, column: str, query: Any, gallery: Any, tmp_path: Path
) -> None:
    (result,) = [p for p in read(name, tmp_path).test.protocols if p.name == protocol]
    assert (result.queries, result.gallery) == (((column, query),), ((column, gallery),))


def test_ltcc_without_the_list_of_identities_has_a_note(tmp_path: Path) -> None:
    dataset_trees.build("ltcc", tmp_path)
    (tmp_path / "LTCC_ReID/info/cloth-change_id_test.txt").unlink()
    source = READERS["ltcc"](tmp_path)
    assert len(source.test.protocols) == 3
    assert "no info/cloth-change_id_test.txt" in source.notes[0]
