"""The persons that names and tables tell, and the order of names."""

from pathlib import Path

import pytest

from ffreid.reid.own_files import (
    find_items,
    labels_from_csv,
    labels_from_names,
    natural,
    read_persons,
)
from tests.reid.own_pictures import draw, pictures


@pytest.mark.parametrize(
    ("names", "persons"),
    [
        (("0002_c1s1_000451_03.jpg", "-1_c3s1_000451_03.jpg"), ("0002", None)),
        (("094_1_c9_015833.png", "a/7_1_c9_015833.png"), ("094", "7")),
        (("P10_C12_20200102_08_49586_0.jpg",), ("10",)),
        (("session1/001_01", "session3/002_04"), ("001", "002")),
        (("0002_c1s1_000451_03.jpg", "door.jpg"), (None, None)),
        (("2020-01-02-12.jpg",), (None,)),
        (("001_01",), (None,)),
        (("1_2_3.jpg",), (None,)),
    ],
)
def test_persons_are_read_from_names_that_are_unmistakable(
    tmp_path: Path, names: tuple[str, ...], persons: tuple[str | None, ...]
) -> None:
    items = [find_items(draw(tmp_path / f"{n}.png", 0), video=False).items[0] for n in range(9)]
    renamed = [type(i)(name, i.frames) for name, i in zip(names, items, strict=False)]
    assert labels_from_names(renamed) == [list(persons)]


def test_a_table_labels_pictures_and_folders(tmp_path: Path) -> None:
    pictures(tmp_path / "g/anna", "1.png 2.png")
    pictures(tmp_path / "g", "loose.png")
    (tmp_path / "g/t.csv").write_text("path,identity\nanna,anna\nloose.png,ben\nanna/2.png,carl\n")
    found = find_items(tmp_path / "g", video=False)
    table = tmp_path / "g/t.csv"
    (labels,) = labels_from_csv(table, read_persons(table), (tmp_path / "g", found.items))
    persons = {item.name: label for item, label in zip(found.items, labels, strict=True)}
    assert persons == {"anna/1.png": "anna", "anna/2.png": "carl", "loose.png": "ben"}


def test_names_sort_numbers_by_value() -> None:
    names = ["f10.png", "f", "f2.png", "F2.png", "10.png", "f.png"]
    expected = ["10.png", "f", "F2.png", "f2.png", "f10.png", "f.png"]
    assert sorted(names, key=natural) == expected
