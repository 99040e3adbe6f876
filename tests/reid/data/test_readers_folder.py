"""The reader of the user's dataset: a table, or folders by split and identity."""

import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ffreid.errors import UserError
from ffreid.recipes import compose
from ffreid.reid.data.readers import READERS
from ffreid.reid.data.records import Source, labels
from ffreid.reid.dataset_report import statistics
from ffreid.reid.retrieval.protocols import match_masks
from ffreid.reid.sources import open_source
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


def test_a_table_of_a_million_columns_takes_seconds(tmp_path: Path) -> None:
    columns = ",".join(f"c{number}" for number in range(10**6))
    started = time.monotonic()
    for header, problem in (
        (f"{HEADER},{columns}", "line 2: 5 values, expected 1000005"),
        (f"{HEADER},{columns},c7", "has two columns 'c7'"),
        (columns, "has no column path, identity, split"),
    ):
        (tmp_path / "records.csv").write_text(f"{header}\n{LINES[0]}\n")
        with pytest.raises(UserError, match=problem) as caught:
            read(tmp_path)
        assert len(caught.value.message) < 1000
    assert time.monotonic() - started < 20


def test_identities_may_be_numbers_of_any_length(tmp_path: Path) -> None:
    lines = [line.replace("anna", "9" * 5000) for line in LINES]
    assert from_table(tmp_path, lines).identities == ("9" * 5000, "ben")


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


@pytest.mark.parametrize("name", ["records.csv", "labels.csv", "mine.CSV"])
def test_a_table_can_have_any_name(name: str, tmp_path: Path) -> None:
    expected = read(dataset_trees.build("folder", tmp_path))
    (tmp_path / "records.csv").rename(tmp_path / name)
    dataset_trees.write(tmp_path, {"._mine.csv": ""}, [])
    if name == "records.csv":
        (tmp_path / "another.csv").write_text("a,b\n")
    assert read(tmp_path).train == expected.train


LETTER = unicodedata.normalize("NFC", "é")
DECOMPOSED = unicodedata.normalize("NFD", LETTER)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: "sep=;\r\n" + text.replace(",", ";"),
        lambda text: '"' + text.replace(",", '","').replace("\n", '"\n"').removesuffix('"'),
        lambda text: '"' + text.replace(",", '", "').replace("\n", '"\n"').removesuffix('"'),
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace("\na/", "\n./a//"),
        lambda text: text.replace(",", "\xa0,\u200b"),
        lambda text: text.replace(LETTER, DECOMPOSED),
    ],
)
def test_a_table_may_come_from_other_systems(
    edit: Callable[[str], str], encoding: str, tmp_path: Path
) -> None:
    table = dataset_trees.TABLE.replace("a/", f"{LETTER}/").replace("anna", f"{LETTER}va")
    paths = [line.partition(",")[0] for line in table.splitlines()[1:]]
    paths = [unicodedata.normalize("NFD", path) for path in paths]  # as macOS writes them
    expected = read(dataset_trees.write(tmp_path, {"records.csv": table}, paths))
    assert expected.train[0].frames[0] == paths[0]
    (tmp_path / "records.csv").write_text(edit(table), encoding, newline="")
    assert read(tmp_path) == expected


@pytest.mark.parametrize(
    ("first", "second", "notes"),
    [
        ("an\u200bna,Door,pink,train", "010,door,black_,gallery", [
            "identity: taken as different: '010' and '10'; 'anna' and 'an\\u200bna'",
            "camera: taken as different: 'Door' and 'door'",
        ]),
        ("003,door,pink,query", "3.0,yard,grey,gallery", [
            "identity: taken as different: '003' and '3.0'"
        ]),
        ("id_03,1,pink,query", "3,c1,grey,gallery", [
            "identity: different in query and gallery: 1 pair: 'id_03' and '3'",
            "camera: different in query and gallery: 1 pair: '1' and 'c1'",
        ]),
        ("10,Cam 01,pink,query", "9,c1,grey,gallery", [
            "camera: different in query and gallery: 1 pair: 'Cam 01' and 'c1'"
        ]),
        ("3,a1,pink,query", "x3,b1,grey,train", []),
        ("dora,door,pink,query", "eve,yard,grey,query", [
            "of 3 identities in query, gallery lacks 2 identities: dora, eve"
        ]),
        ("10,nan,pink,query", "9,door,None,gallery", [
            "no label: camera 'nan', a missing value, of 1 image: e/1.jpg",
            "no label: clothes 'None', a missing value, of 1 image: e/2.jpg",
            "no camera label of 1 image: e/1.jpg: where it is compared, they count neither as "
            "right nor as wrong for their person",
            "no clothes label of 1 image: e/2.jpg: where it is compared, they count neither as "
            "right nor as wrong for their person",
        ]),
    ],
)  # fmt: skip
def test_labels_that_are_hardly_meant_so_are_noted(
    first: str, second: str, notes: list[str], tmp_path: Path
) -> None:
    source = from_table(tmp_path, [*LINES, f"e/1.jpg,{first}", f"e/2.jpg,{second}"])
    assert list(source.notes) == notes


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("c/../c/2.jpg", r"c/2.jpg and c/../c/2.jpg \(lines 6 and 8\) are one file"),
        ("{root}/c/2.jpg", r"c/2.jpg \(lines 6 and 8\) are one file"),
        ("link.jpg", r"c/2.jpg and link.jpg \(lines 6 and 8\) are one file"),
        ("hard.jpg", r"c/2.jpg and hard.jpg \(lines 6 and 8\) are one file"),
    ],
)
def test_one_file_is_not_counted_twice(path: str, error: str, tmp_path: Path) -> None:
    dataset_trees.build("folder", tmp_path)
    (tmp_path / "link.jpg").symlink_to("c/2.jpg")
    (tmp_path / "hard.jpg").hardlink_to(tmp_path / "c/2.jpg")
    with (tmp_path / "records.csv").open("a") as file:
        file.write(f"{path.format(root=tmp_path)},10,yard,black,gallery\n")
    with pytest.raises(UserError, match=error):
        read(tmp_path)


@pytest.mark.parametrize(
    ("lacking", "columns", "note", "matches"),
    [
        ("c/2.jpg,camera", "camera clothes", "no camera label of 1 image: c/2.jpg: where", "000"),
        ("c/1.jpg,camera", "clothes", "no camera labels in query: general", "110"),
        ("c/2.jpg,clothes", "camera clothes", "no clothes label of 1 image: c/2.jpg: where", "100"),
        ("c/1.jpg,clothes", "camera", "no clothes labels in query: SC and CC are not", "1"),
        ("a/2.jpg,clothes", "camera clothes", "no clothes label of 1 training image: a/2", "110"),
        ("a/2.jpg,camera", "camera clothes", "", "110"),
    ],
)
def test_labels_can_be_known_in_part(
    lacking: str, columns: str, note: str, matches: str, tmp_path: Path
) -> None:
    path, column = lacking.split(",")
    index = HEADER.split(",").index(column)
    lines = [line.split(",") for line in LINES]
    lines = [
        ["" if i == index and row[0] == path else c for i, c in enumerate(row)] for row in lines
    ]
    source = from_table(tmp_path, list(map(",".join, lines)))
    assert " ".join(source.columns) == columns
    assert [text for text in source.notes if "no query" not in text] == [
        text for text in source.notes if note and text.startswith(note)
    ]
    sides = (labels(part, source.columns) for part in (source.test.query, source.test.gallery))
    query, gallery = sides
    found = [match_masks(p, query, gallery)[0].any() for p in source.test.protocols]
    assert "".join(str(int(match)) for match in found) == matches
    assert source.clothes == (
        ("anna", "blue", "red")
        if path[0] == "a" and column == "clothes"
        else ("blue", "green", "red")
    )


def test_junk_is_left_out_and_counted(tmp_path: Path) -> None:
    junk = [f"j/{split}.jpg,-1,yard,-1,{split}" for split in ("train", "query", "gallery")]
    source = from_table(tmp_path, [*LINES, *junk])
    expected = from_table(tmp_path / "without", LINES)
    assert (source.train, source.test) == (expected.train, expected.test)
    assert source.notes == (
        "left out, as -1 is junk: 3 images: j/train.jpg, j/query.jpg, j/gallery.jpg",
    )


@pytest.mark.parametrize("has_table", [True, False])
def test_an_evaluation_needs_no_training_images(has_table: bool, tmp_path: Path) -> None:
    if has_table:
        source = from_table(tmp_path, LINES[3:])
    else:
        source = read(dataset_trees.write(tmp_path, {}, ["query/x/1.jpg", "gallery/x/2.jpg"]))
    assert (source.train, len(source.test.query)) == ((), 1)
    assert source.notes[-1].startswith("there are no training images")


def test_training_and_test_may_have_the_same_persons_on_purpose(tmp_path: Path) -> None:
    source = from_table(tmp_path, [*LINES, "e/1.jpg,anna,door,red,query"])
    note = "the scores are of persons seen in training: 1 identity: anna"
    assert (source.shared, source.notes) == (("anna",), (note,))
    assert statistics(source, {})[-1]["identities"] == 4
    with pytest.raises(UserError, match="in train and in query or gallery: 1 identity: anna") as e:
        open_source(compose("folder", root=tmp_path))
    assert "DATA.SHARED_IDENTITIES True" in e.value.hint
    assert open_source(compose("folder", root=tmp_path, pairs=e.value.hint.split()[-2:])) == source


def test_several_tables_without_a_known_name_are_an_error(tmp_path: Path) -> None:
    dataset_trees.write(tmp_path, {"b.csv": "", "a.csv": ""}, [])
    with pytest.raises(UserError, match=r"several tables: a.csv, b.csv"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["a,anna"], "path,name", "has no column identity, split: it begins with 'path,name'"),
        ([], "path,identity|split", "read with the delimiter ','"),
        (["a,anna,train,train"], "path,identity,split,split", "has two columns 'split'"),
        ([], HEADER, "no lines below its header"),
        ([*LINES[:3], *LINES[4:]], HEADER, "no images in the split query"),
        *(
            ([*LINES, line], HEADER, message)
            for line, message in [
                ("e/1.jpg,eve,door,grey", "line 8: 4 values, expected 5"),
                ("e/1.jpg,,door,grey,query", "line 8: no identity"),
                ("e/1.jpg,nan,door,,query", "identity 'nan', a missing value, of 1 image: e/1"),
                ("c/1.jpg,9,door,,gallery", "lines 5 and 8 are both c/1.jpg, as '10' and as '9'"),
                ("e/1.jpg,eve,door,grey,probe", "line 8: unknown split 'probe'"),
                ("a/1.jpg,anna,door,red,train", "lines 2 and 8 are both a/1.jpg"),
                (ALIEN, "'red' belong to 'anna' (line 2) and 'eve' (line 8)"),
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
