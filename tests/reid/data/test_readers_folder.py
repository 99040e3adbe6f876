"""The reader of the user's dataset: a table, or folders by split and identity."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ffreid.errors import UserError
from ffreid.reid.data.readers import READERS
from ffreid.reid.data.records import Source
from tests.reid import dataset_trees

read = READERS["folder"]
HEADER = "path,identity,camera,clothes,split"
LINES = dataset_trees.TABLE.splitlines()[1:]
ALIEN = "e/1.jpg,eve,door,red,query"


def from_table(folder: Path, lines: Sequence[str], header: str = HEADER) -> Source:
    index = header.split(",").index("path")
    text = "\n".join([header, *lines]) + "\n"
    images = [line.split(",")[index] for line in lines if line.count(",") >= index]
    return read(dataset_trees.write(folder, {"records.csv": text}, images))


def without(column: int) -> list[str]:
    """The table's lines with an empty column."""
    cells = [line.split(",") for line in LINES]
    return [",".join("" if i == column else c for i, c in enumerate(row)) for row in cells]


def test_columns_can_have_any_order_and_unused_ones_are_noted(tmp_path: Path) -> None:
    lines = [f"x,{','.join(reversed(line.split(',')))}" for line in LINES]
    source = from_table(tmp_path, lines, "Day,split, clothes,camera,identity,path")
    assert source.train == from_table(tmp_path / "other", LINES).train
    assert source.notes == ("unused columns: day",)


@pytest.mark.parametrize("has_column", [True, False])
def test_without_cameras_the_protocols_do_not_use_them(has_column: bool, tmp_path: Path) -> None:
    lines, header = without(2), HEADER
    if not has_column:
        lines, header = [line.replace(",,", ",") for line in lines], HEADER.replace(",camera", "")
    source = from_table(tmp_path, lines, header)
    assert source.columns == ("clothes",)
    assert [(p.name, p.same, p.other) for p in source.test.protocols] == [
        ("general, without cameras", (), ()),
        ("SC, without cameras", ("clothes",), ()),
        ("CC, without cameras", (), ("clothes",)),
    ]
    assert "no camera labels" in source.notes[0]


def test_without_clothes_each_identity_has_one_label_and_a_note_says_so(tmp_path: Path) -> None:
    source = from_table(tmp_path, without(3))
    assert source.columns == ("camera",)
    assert [protocol.name for protocol in source.test.protocols] == ["general"]
    assert source.clothes == source.identities == ("anna", "ben")
    assert "SC and CC are not evaluated" in source.notes[0]


def test_folders_by_split_and_identity_are_read(tmp_path: Path) -> None:
    images = ["train/b/2.jpg", "train/b/1.png", "train/10/1.jpg", "train/9/1.JPG"]
    images += ["query/x/1.jpg", "gallery/x/2.jpg", "gallery/c/1.jpg"]
    source = read(dataset_trees.write(tmp_path, {}, images))
    assert source.identities == ("9", "10", "b")
    assert [record.identity for record in source.train] == [1, 0, 2, 2]
    assert [record.identity for record in source.test.query + source.test.gallery] == [1, 0, 1]
    assert source.columns == ()
    assert [(p.name, p.other) for p in source.test.protocols] == [("general, without cameras", ())]
    assert len(source.notes) == 2
    (tmp_path / "train/empty").mkdir()
    assert "folders without images: train/empty" in read(tmp_path).notes
    dataset_trees.write(tmp_path, {}, ["gallery/b/2.jpg"])
    with pytest.raises(UserError, match="in train and in gallery: 1 identity: b"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["records.csv", "labels.csv", "mine.csv"])
def test_a_table_can_have_any_name_and_come_from_windows(name: str, tmp_path: Path) -> None:
    expected = read(dataset_trees.build("folder", tmp_path))
    (tmp_path / "records.csv").unlink()
    text = "\ufeff" + dataset_trees.TABLE.replace("\n", "\r\n")
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    if name == "records.csv":
        (tmp_path / "another.csv").write_text("a,b\n")
    assert read(tmp_path).train == expected.train


def test_several_tables_without_a_known_name_are_an_error(tmp_path: Path) -> None:
    dataset_trees.write(tmp_path, {"b.csv": "", "a.csv": ""}, [])
    with pytest.raises(UserError, match=r"several tables: a.csv, b.csv"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["a,anna"], "path,name", "has no column identity, split: its first line is 'path,name'"),
        (["a,anna,train,train"], "path,identity,split,split", "has two columns 'split'"),
        ([], HEADER, "no lines below its header"),
        ([*LINES[:3], *LINES[4:]], HEADER, "no images in the split query"),
        *(
            ([*LINES, line], HEADER, message)
            for line, message in [
                ("e/1.jpg,eve,door,grey", "line 8: 4 values, expected 5"),
                ("e/1.jpg,,door,grey,query", "line 8: no identity"),
                ("e/1.jpg,eve,door,grey,probe", "line 8: unknown split 'probe'"),
                ("e/1.jpg,eve,,grey,query", "line 8: no camera, as in 1 of 7 lines"),
                ("e/1.jpg,eve,door,,query", "line 8: no clothes, as in 1 of 7 lines"),
                ("a/1.jpg,anna,door,red,train", "lines 2 and 8 are both a/1.jpg"),
                (ALIEN, "'red' belong to 'anna' (line 2) and 'eve' (line 8)"),
                ("e/1.jpg,anna,door,red,query", "in train and in query: 1 identity: anna"),
            ]
        ),
        ([*without(2), LINES[3].replace("door,black,query", ",black,gallery")], HEADER, "c/1.jpg"),
    ],
)
def test_a_wrong_table_is_an_error(
    lines: list[str], header: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        from_table(tmp_path, lines, header)
    assert message in caught.value.message
    assert "\n" not in caught.value.message + caught.value.hint
    if lines[-1:] == [ALIEN]:
        assert caught.value.hint.endswith("e.g. eve_red")
        from_table(tmp_path, [*LINES, ALIEN.replace("red", "eve_red")])


def test_with_cameras_a_query_can_be_in_the_gallery(tmp_path: Path) -> None:
    source = from_table(tmp_path, [*LINES, LINES[3].replace("query", "gallery")])
    assert len(source.test.gallery) == 3


def test_missing_files_of_a_table_are_an_error_or_skipped_as_broken(tmp_path: Path) -> None:
    complete = read(dataset_trees.build("folder", tmp_path))
    (tmp_path / "a/1.jpg").unlink()
    (tmp_path / "d/1.jpg").unlink()
    with pytest.raises(UserError, match=r"lists 2 files: a/1.jpg, d/1.jpg missing in") as caught:
        read(tmp_path)
    assert "set DATA.SKIP_BROKEN True" in caught.value.hint
    source = read(tmp_path, skip_broken=True)
    assert source.notes == ("missing: 2 files: a/1.jpg, d/1.jpg",)
    assert (source.train, source.test) == (complete.train, complete.test)


def test_a_table_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path)
