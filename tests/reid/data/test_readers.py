"""The readers of the published data sets, on small trees in their real layouts."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffreid.reid.data.readers import READERS
from ffreid.reid.data.records import Record, Source
from ffreid.reid.datasets import DATASETS
from tests.reid import dataset_trees


def read(name: str, folder: Path) -> Source:
    return READERS[name](dataset_trees.build(name, folder))


def written(name: str, folder: Path, texts: dict[str, str], empty: str) -> Source:
    return READERS[name](dataset_trees.write(folder, texts, empty.split()))


def label_triples(records: tuple[Record, ...]) -> list[tuple[int, int, int]]:
    return [(record.identity, record.camera, record.clothes) for record in records]


def test_every_dataset_but_toys_has_a_reader_and_a_layout() -> None:
    assert list(READERS) == [name for name, info in DATASETS.items() if not info.is_toy]
    assert all(DATASETS[name].tree for name in READERS)


@pytest.mark.parametrize("name", READERS)
def test_every_data_set_is_read_from_its_layout(name: str, tmp_path: Path) -> None:
    source = read(name, tmp_path)
    assert source.name == name
    records = source.train + source.test.query + source.test.gallery
    assert all((source.folder / frame).is_file() for r in records for frame in r.frames)
    assert {r.identity for r in source.train} == set(range(len(source.identities)))
    assert {r.clothes for r in source.train} == set(range(len(source.clothes)))


@pytest.mark.parametrize("name", READERS)
def test_the_root_may_be_the_data_sets_own_folder(name: str, tmp_path: Path) -> None:
    source = read(name, tmp_path)
    assert READERS[name](source.folder) == source


@pytest.mark.parametrize(
    ("name", "given", "variant"),
    [
        ("ltcc", "LTCC_ReID", "LTCC"),
        ("ltcc", "LTCC_ReID", "ltcc"),
        ("prcc", "prcc", "PRCC"),
        ("vcclothes", "VC-Clothes", "VCClothes"),
        ("vcclothes_sc", "VC-Clothes", "vcclothes"),
        ("last", "last", "LaST"),
        ("deepchange", "DeepChangeDataset", "DeepChange"),
        ("ccvid", "CCVID", "ccvid"),
    ],
)
def test_known_variants_of_the_folders_name_are_found(
    name: str, given: str, variant: str, tmp_path: Path
) -> None:
    dataset_trees.build(name, tmp_path)
    (tmp_path / given).rename(tmp_path / variant)
    source = READERS[name](tmp_path)
    assert source.folder == tmp_path / variant
    assert str(tmp_path / variant) in source.summary()


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("ltcc", "my_cool_root"),
        ("vcclothes", "2022-01-02-03"),
        ("last", "queryroot"),
        ("prcc", "A_1/B_2"),
        ("ccvid", "session3/9_9"),
        ("market1501", "0001_c1s1"),
    ],
)
def test_the_roots_own_path_says_nothing(name: str, home: str, tmp_path: Path) -> None:
    plain, strange = read(name, tmp_path / "plain"), read(name, tmp_path / home)
    assert strange.train == plain.train
    assert strange.test == plain.test


@pytest.mark.parametrize("name", READERS)
def test_the_order_is_the_same_whatever_the_file_system_gives(
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
def test_hidden_files_and_other_kinds_of_file_are_passed_over(name: str, tmp_path: Path) -> None:
    source = read(name, tmp_path)
    home = (source.folder / source.train[0].frames[0]).parent
    for stray in ("._hidden.jpg", "._hidden.png", "Thumbs.db", "notes.txt"):
        (home / stray).touch()
    assert READERS[name](tmp_path) == source


# Labels


def test_ltcc_labels_are_person_camera_from_zero_and_the_persons_outfit(tmp_path: Path) -> None:
    source = read("ltcc", tmp_path)
    assert [record.frames[0] for record in source.train[2:4]] == [
        "train/012_10_c12_025509.png",
        "train/012_2_c1_005609.png",
    ]
    assert label_triples(source.train[2:4]) == [(1, 11, 1), (1, 0, 2)]
    assert source.identities == ("005", "012", "094")
    assert source.clothes == ("005_1", "012_10", "012_2", "094_1", "094_2")
    assert label_triples(source.test.query) == [(3, 8, 0), (44, 5, 2)]
    assert label_triples(source.test.gallery)[-1] == (150, 9, 4)


def test_an_outfit_belongs_to_its_person_alone(tmp_path: Path) -> None:
    owners = read("ltcc", tmp_path).clothes_of_identity()
    assert owners.astype(int).tolist() == [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]


def test_prcc_cameras_a_and_b_share_an_outfit_and_c_has_another(tmp_path: Path) -> None:
    source = read("prcc", tmp_path)
    assert label_triples(source.train) == [
        (0, 0, 0),
        (0, 1, 0),
        (0, 2, 1),
        (1, 0, 2),
        (1, 1, 2),
        (1, 2, 3),
    ]
    assert source.clothes == ("001", "001C", "002", "002C")


def test_prcc_queries_are_those_of_b_then_those_of_c(tmp_path: Path) -> None:
    source = read("prcc", tmp_path)
    assert label_triples(source.test.query) == [(4, 1, 0), (37, 1, 2), (4, 2, 1), (37, 2, 3)]
    assert label_triples(source.test.gallery) == [(4, 0, 0), (4, 0, 0), (37, 0, 2), (37, 0, 2)]


def test_prcc_outfits_are_numbered_by_person_even_where_c_saw_somebody_never(
    tmp_path: Path,
) -> None:
    dataset_trees.build("prcc", tmp_path)
    (tmp_path / "prcc/rgb/test/C/004/cropped_rgb081.jpg").unlink()
    assert label_triples(READERS["prcc"](tmp_path).test.query)[-1] == (37, 2, 3)


def test_prcc_single_shot_galleries_are_the_originals(tmp_path: Path) -> None:
    dataset_trees.build("prcc", tmp_path)
    # With three pictures of the first person and two of each other, as recorded.
    stems = ("004/cropped_rgb979", "113/cropped_rgb386", "113/cropped_rgb979")
    empty = " ".join(f"prcc/rgb/test/A/{stem}.jpg" for stem in stems)
    galleries = written("prcc", tmp_path, {}, empty).single_shot
    assert galleries[:5] == ((0, 3, 6), (2, 4, 5), (2, 3, 6), (1, 3, 5), (2, 4, 6))
    assert galleries[5:] == ((1, 3, 5), (2, 3, 6), (2, 3, 5), (0, 3, 6), (0, 4, 6))


def test_prcc_draws_its_galleries_without_the_global_generator(tmp_path: Path) -> None:
    random.seed(11)
    expected = random.random()
    random.seed(11)
    read("prcc", tmp_path)
    assert random.random() == expected


def test_prcc_validates_like_it_tests_on_the_training_identities(tmp_path: Path) -> None:
    val = read("prcc", tmp_path).val
    assert val is not None
    assert label_triples(val.gallery) == [(0, 0, 0), (1, 0, 2)]
    assert label_triples(val.query) == [(0, 1, 0), (1, 1, 2), (0, 2, 1)]
    assert [protocol.name for protocol in val.protocols] == ["SC", "CC"]


def test_vcclothes_outfits_sort_as_person_and_outfit_written_together(tmp_path: Path) -> None:
    # '1' + '12' and '11' + '2' read alike and stay two outfits.
    pictures = ["1-1-12-1", "11-1-2-1", "2-1-1-1"]
    dataset_trees.build("vcclothes", tmp_path)
    empty = " ".join(f"VC-Clothes/train/{stem}.jpg" for stem in pictures)
    source = written("vcclothes", tmp_path, {}, empty)
    assert source.clothes[-3:] == ("112", "112", "21")
    assert source.clothes_of_identity().sum(axis=0).tolist() == [1] * len(source.clothes)


@pytest.mark.parametrize(
    ("name", "cameras"),
    [("vcclothes", {0, 1, 2, 3}), ("vcclothes_sc", {1, 2}), ("vcclothes_cc", {2, 3})],
)
def test_vcclothes_of_two_cameras_keeps_those_in_the_test_and_all_in_training(
    name: str, cameras: set[int], tmp_path: Path
) -> None:
    source = read(name, tmp_path)
    assert {record.camera for record in source.test.query + source.test.gallery} == cameras
    assert {record.camera for record in source.train} == {0, 1, 2, 3}


def test_vcclothes_outfits_are_numbered_within_the_two_cameras(tmp_path: Path) -> None:
    assert label_triples(read("vcclothes_cc", tmp_path).test.gallery) == [
        (300, 2, 0),
        (411, 2, 1),
        (411, 3, 2),
    ]


def test_last_cameras_run_on_from_queries_to_gallery_and_outfits_are_persons(
    tmp_path: Path,
) -> None:
    source = read("last", tmp_path)
    assert label_triples(source.test.query) == [(5100, 0, 5100), (5250, 1, 5250)]
    assert label_triples(source.test.gallery) == [
        (5100, 2, 5100),
        (5250, 3, 5250),
        (999999, 4, 999999),
    ]
    assert source.val is not None
    assert label_triples(source.val.gallery) == [(5001, 1, 5001), (999999, 2, 999999)]


def test_last_training_outfit_is_the_names_last_part(tmp_path: Path) -> None:
    source = read("last", tmp_path)
    assert source.clothes == ("000000_0", "000000_1", "000003_0")
    assert label_triples(source.train) == [(0, 0, 0), (0, 1, 1), (1, 2, 2), (1, 3, 2)]


def test_deepchange_camera_is_the_tracklet_and_outfit_the_day(tmp_path: Path) -> None:
    source = read("deepchange", tmp_path)
    # Outfits sort as text, P10… before P2…, identities as numbers; the list's order stays.
    assert source.identities == ("2", "10")
    assert source.clothes == ("P1020200102", "P220190301", "P220191224")
    assert label_triples(source.train) == [(1, 1, 0), (0, 2, 1), (0, 3, 2), (0, 3, 2)]


def test_ccvid_walks_are_cameras_and_session_three_has_its_own(tmp_path: Path) -> None:
    source = read("ccvid", tmp_path)
    assert label_triples(source.train) == [(1, 1, 2), (0, 2, 1), (0, 17, 0)]
    assert label_triples(source.test.query) == [(1, 23, 0)]
    assert source.identities == ("005", "012")
    assert source.video
    assert source.train[0].frames == tuple(f"session2/012_01/{n:05d}.jpg" for n in range(1, 6))


def test_ccvid_frames_are_in_order_of_their_numbers(tmp_path: Path) -> None:
    dataset_trees.build("ccvid", tmp_path)
    home = tmp_path / "CCVID/session2/012_01"
    for path in home.iterdir():
        path.unlink()
    for number in range(8, 12):
        (home / f"{number}.jpg").touch()
    frames = READERS["ccvid"](tmp_path).train[0].frames
    assert [frame.rpartition("/")[2] for frame in frames] == ["8.jpg", "9.jpg", "10.jpg", "11.jpg"]


def test_market_leaves_bad_boxes_out_and_keeps_distractors(tmp_path: Path) -> None:
    source = read("market1501", tmp_path)
    assert label_triples(source.test.gallery) == [(0, 0, 0), (1, 1, 1)]
    assert source.columns == ("camera",)
    assert source.clothes == source.identities
    assert np.array_equal(source.clothes_of_identity(), np.eye(2, dtype=bool))


# Protocols


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("ltcc", ["general", "SC", "CC", "CC, listed identities"]),
        ("prcc", ["SC", "CC"]),
        ("vcclothes", ["general", "SC", "CC", "SC (cameras 2 and 3)", "CC (cameras 3 and 4)"]),
        ("vcclothes_sc", ["SC (cameras 2 and 3)"]),
        ("vcclothes_cc", ["CC (cameras 3 and 4)"]),
        ("last", ["general"]),
        ("deepchange", ["general"]),
        ("ccvid", ["general", "SC", "CC"]),
        ("market1501", ["general"]),
        ("folder", ["general", "SC", "CC"]),
    ],
)
def test_every_data_set_has_its_protocols(name: str, rows: list[str], tmp_path: Path) -> None:
    assert [protocol.name for protocol in read(name, tmp_path).test.protocols] == rows


def test_ltcc_row_of_listed_identities_is_of_those_alone(tmp_path: Path) -> None:
    row = read("ltcc", tmp_path).test.protocols[-1]
    assert row.queries == row.gallery == (("identity", (3, 44)),)


def test_ltcc_without_the_list_says_which_row_it_does_without(tmp_path: Path) -> None:
    dataset_trees.build("ltcc", tmp_path)
    (tmp_path / "LTCC_ReID/info/cloth-change_id_test.txt").unlink()
    source = READERS["ltcc"](tmp_path)
    assert len(source.test.protocols) == 3
    assert "no info/cloth-change_id_test.txt" in source.notes[0]


@pytest.mark.parametrize("name", ["prcc", "vcclothes"])
def test_rows_of_certain_cameras_take_both_sides(name: str, tmp_path: Path) -> None:
    by_name = {p.name: (p.queries, p.gallery) for p in read(name, tmp_path).test.protocols}
    if name == "prcc":
        assert by_name["SC"] == ((("camera", (1,)),), (("camera", (0,)),))
        assert by_name["CC"] == ((("camera", (2,)),), (("camera", (0,)),))
    else:
        assert by_name["SC (cameras 2 and 3)"] == ((("camera", (1, 2)),),) * 2
        assert by_name["CC (cameras 3 and 4)"] == ((("camera", (2, 3)),),) * 2
