"""The reader of people's own pictures."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ffreid.errors import UserError
from ffreid.reid.data.readers import READERS
from ffreid.reid.data.records import Record, Source
from tests.reid import dataset_trees

HEADER = "path,identity,camera,clothes,split"
LINES = dataset_trees.TABLE.splitlines()[1:]


def from_table(folder: Path, lines: Sequence[str], header: str = HEADER) -> Source:
    index = header.split(",").index("path")
    text = "\n".join([header, *lines]) + "\n"
    pictures = [line.split(",")[index] for line in lines if line.count(",") >= index]
    return READERS["folder"](dataset_trees.write(folder, {"records.csv": text}, pictures))


def mistake(folder: Path, lines: Sequence[str], header: str = HEADER) -> UserError:
    with pytest.raises(UserError) as caught:
        from_table(folder, lines, header)
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


def without(*columns: int) -> list[str]:
    """The table's lines with empty columns."""
    cells = [line.split(",") for line in LINES]
    return [",".join("" if i in columns else c for i, c in enumerate(row)) for row in cells]


def label_triples(records: tuple[Record, ...]) -> list[tuple[int, int, int]]:
    return [(record.identity, record.camera, record.clothes) for record in records]


def test_texts_are_numbered_in_sorted_order_and_numbers_by_value(tmp_path: Path) -> None:
    source = from_table(tmp_path, LINES)
    assert source.identities == ("anna", "ben")
    assert source.clothes == ("blue", "green", "red")
    assert label_triples(source.train) == [(0, 0, 2), (0, 1, 1), (1, 0, 0)]
    # 9 before 10
    assert label_triples(source.test.query) == [(1, 0, 0)]
    assert label_triples(source.test.gallery) == [(1, 1, 0), (0, 1, 1)]
    assert source.columns == ("camera", "clothes")
    assert source.notes == ()


def test_columns_may_stand_in_any_order_and_others_are_told(tmp_path: Path) -> None:
    lines = [f"x,{','.join(reversed(line.split(',')))}" for line in LINES]
    source = from_table(tmp_path, lines, "Day,split, clothes,camera,identity,path")
    assert source.train == from_table(tmp_path / "other", LINES).train
    assert source.notes == ("unused columns: day",)


@pytest.mark.parametrize("header", [HEADER, "path,identity,split,clothes"])
def test_without_cameras_no_protocol_leaves_pictures_out_by_camera(
    header: str, tmp_path: Path
) -> None:
    lines = without(2)
    if header != HEADER:
        cells = [line.split(",") for line in lines]
        lines = [",".join((c[0], c[1], c[4], c[3])) for c in cells]
    source = from_table(tmp_path, lines, header)
    assert source.columns == ("clothes",)
    assert [(p.name, p.same, p.other) for p in source.test.protocols] == [
        ("general, without cameras", (), ()),
        ("SC, without cameras", ("clothes",), ()),
        ("CC, without cameras", (), ("clothes",)),
    ]
    assert "no cameras" in source.notes[0]


def test_without_outfits_everyone_trains_as_one_and_a_note_says_so(tmp_path: Path) -> None:
    source = from_table(tmp_path, without(3))
    assert source.columns == ("camera",)
    assert [protocol.name for protocol in source.test.protocols] == ["general"]
    assert source.clothes == source.identities == ("anna", "ben")
    assert "SC and CC are not evaluated" in source.notes[0]


def test_folders_by_split_and_identity_are_read(tmp_path: Path) -> None:
    pictures = ["train/b/2.jpg", "train/b/1.png", "train/10/1.jpg", "train/9/1.JPG"]
    dataset_trees.write(
        tmp_path, {}, [*pictures, "query/x/1.jpg", "gallery/x/2.jpg", "gallery/c/1.jpg"]
    )
    source = READERS["folder"](tmp_path)
    assert source.identities == ("9", "10", "b")
    assert [record.identity for record in source.train] == [1, 0, 2, 2]
    assert [record.identity for record in source.test.query + source.test.gallery] == [1, 0, 1]
    assert source.columns == ()
    assert [(p.name, p.other) for p in source.test.protocols] == [("general, without cameras", ())]
    assert len(source.notes) == 2


def test_folders_without_pictures_are_told(tmp_path: Path) -> None:
    dataset_trees.write(tmp_path, {}, ["train/a/1.jpg", "query/x/1.jpg", "gallery/x/2.jpg"])
    (tmp_path / "train/empty").mkdir()
    assert "folders without images: train/empty" in READERS["folder"](tmp_path).notes


@pytest.mark.parametrize("name", ["records.csv", "labels.csv", "mine.csv"])
def test_the_table_may_have_any_name(name: str, tmp_path: Path) -> None:
    dataset_trees.build("folder", tmp_path)
    (tmp_path / "records.csv").rename(tmp_path / name)
    assert len(READERS["folder"](tmp_path).train) == 3


def test_known_names_of_a_table_go_before_others(tmp_path: Path) -> None:
    dataset_trees.build("folder", tmp_path)
    (tmp_path / "another.csv").write_text("a,b\n")
    assert len(READERS["folder"](tmp_path).train) == 3


def test_several_unknown_tables_are_named(tmp_path: Path) -> None:
    dataset_trees.write(tmp_path, {"b.csv": "", "a.csv": ""}, [])
    with pytest.raises(UserError, match=r"several tables: a.csv, b.csv"):
        READERS["folder"](tmp_path)


def test_a_byte_order_mark_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    dataset_trees.build("folder", tmp_path)
    text = "\ufeff" + dataset_trees.TABLE.replace("\n", "\r\n")
    (tmp_path / "records.csv").write_text(text, encoding="utf-8", newline="")
    assert len(READERS["folder"](tmp_path).train) == 3


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    error = mistake(tmp_path, ["a.jpg,anna"], "path,name")
    assert "has no column identity, split: its first line is 'path,name'" in error.message


def test_a_column_twice_is_named(tmp_path: Path) -> None:
    error = mistake(tmp_path, ["a.jpg,anna,train,train"], "path,identity,split,split")
    assert "has two columns 'split'" in error.message


def test_a_table_without_lines_is_told(tmp_path: Path) -> None:
    assert "no lines below its header" in mistake(tmp_path, []).message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("e/1.jpg,eve,door,grey", "line 8: 4 values, expected 5"),
        ("e/1.jpg,,door,grey,query", "line 8: no identity"),
        ("e/1.jpg,eve,door,grey,probe", "line 8: unknown split 'probe'"),
        ("e/1.jpg,eve,,grey,query", "line 8: no camera, as in 1 of 7 lines"),
        ("e/1.jpg,eve,door,,query", "line 8: no clothes, as in 1 of 7 lines"),
        ("a/1.jpg,anna,door,red,train", "lines 2 and 8 are both a/1.jpg"),
        ("e/1.jpg,eve,door,red,query", "'red' belong to 'anna' (line 2) and 'eve' (line 8)"),
        ("e/1.jpg,anna,door,red,query", "in train and in query: 1 identity: anna"),
    ],
)
def test_a_line_that_is_wrong_is_named(line: str, said: str, tmp_path: Path) -> None:
    assert said in mistake(tmp_path, [*LINES, line]).message


def test_an_outfit_of_two_people_is_mended_by_what_the_hint_says(tmp_path: Path) -> None:
    error = mistake(tmp_path, [*LINES, "e/1.jpg,eve,door,red,query"])
    assert error.hint.endswith("write eve_red")
    source = from_table(tmp_path, [*LINES, "e/1.jpg,eve,door,eve_red,query"])
    assert len(source.test.query) == 2


def test_a_query_may_stand_in_the_gallery_only_where_cameras_part_them(tmp_path: Path) -> None:
    line = LINES[3].replace("query", "gallery")
    assert len(from_table(tmp_path, [*LINES, line]).test.gallery) == 3
    bare = [*without(2), line.replace("door", "")]
    assert "are both c/1.jpg" in mistake(tmp_path, bare).message


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    assert "no images in the split query" in mistake(tmp_path, [*LINES[:3], *LINES[4:]]).message


def test_listed_files_that_are_not_there_are_counted(tmp_path: Path) -> None:
    dataset_trees.build("folder", tmp_path)
    (tmp_path / "a/1.jpg").unlink()
    (tmp_path / "d/1.jpg").unlink()
    with pytest.raises(UserError, match=r"lists 2 files: a/1.jpg, d/1.jpg missing in") as caught:
        READERS["folder"](tmp_path)
    assert "set DATA.SKIP_BROKEN True" in caught.value.hint


def test_listed_files_that_are_not_there_are_noted_where_broken_files_are_skipped(
    tmp_path: Path,
) -> None:
    whole = READERS["folder"](dataset_trees.build("folder", tmp_path))
    (tmp_path / "a/1.jpg").unlink()
    (tmp_path / "d/1.jpg").unlink()
    source = READERS["folder"](tmp_path, skip_broken=True)
    assert source.notes == ("missing: 2 files: a/1.jpg, d/1.jpg",)
    assert (source.train, source.test) == (whole.train, whole.test)


def test_a_training_identity_in_the_gallery_folder_is_named(tmp_path: Path) -> None:
    dataset_trees.write(tmp_path, {}, ["train/a/1.jpg", "query/x/1.jpg", "gallery/a/2.jpg"])
    with pytest.raises(UserError, match="in train and in gallery: 1 identity: a"):
        READERS["folder"](tmp_path)


def test_a_table_that_is_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(UserError, match="cannot read"):
        READERS["folder"](tmp_path)
