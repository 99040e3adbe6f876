"""``ffreid data --check``: each planted mistake is found with its remedy, sound data have none."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffreid.recipes import compose
from ffreid.reid.data.readers import READERS
from ffreid.reid.dataset_check import check_dataset
from tests.commands import exit_code, quoted, read
from tests.reid import dataset_trees
from tests.reid.command_line import TOY

Plant = Callable[[Path], object]
HEADER = "path,identity,camera,clothes,split"
ROWS = [
    f"{split}/{person}{number}.png,{person},{camera},{person}-{clothes},{split}"
    for split, persons in (("train", "abc"), ("query", "xyz"), ("gallery", "xyz"))
    for person in persons
    for number, (camera, clothes) in enumerate((("door", "red"), ("yard", "red"), ("hall", "blue")))
]
MORE = {
    "market1501": ["bounding_box_train/0007_c1s3_077419_03.jpg"],
    "deepchange": [],
}
"""Images that give each training identity two cameras."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three persons in train and three in the test, by three cameras, with a table."""
    root = tmp_path_factory.mktemp("folder")
    table(root, ROWS)
    rng = np.random.default_rng(0)
    for row in ROWS:
        path = root / row.partition(",")[0]
        path.parent.mkdir(exist_ok=True)
        noise = rng.integers(0, 256, (12, 6, 3), np.uint8)
        Image.fromarray(noise).resize((24, 48), Image.Resampling.BICUBIC).save(path)
    return root


def table(root: Path, rows: Sequence[str]) -> None:
    (root / "records.csv").write_text("\n".join([HEADER, *rows]) + "\n")


def check(dataset: str, root: Path, *pairs: str) -> dict[str, Any]:
    return check_dataset(compose(dataset, root=root, pairs=pairs)).payload()


def rows(edit: Callable[[str], str | None]) -> Plant:
    """Change lines of the table, or leave them out."""
    return lambda root: table(root, [row for row in map(edit, ROWS) if row])


def without(*starts: str) -> Plant:
    return rows(lambda row: None if row.startswith(starts) else row)


def replaced(old: str, new: str, start: str = "") -> Plant:
    return rows(lambda row: row.replace(old, new) if row.startswith(start) else row)


def copied(source: str, target: str, **options: Any) -> Plant:
    """Replace a picture by another, saved again with `options`."""
    return lambda root: Image.open(root / source).save(root / target, **options)


def resized(source: str, target: str) -> Plant:
    def plant(root: Path) -> None:
        Image.open(root / source).resize((30, 60), Image.Resampling.BICUBIC).save(root / target)

    return plant


def resaved(path: str, mode: str, **options: Any) -> Plant:
    return lambda root: Image.open(root / path).convert(mode).save(root / path, **options)


def turned(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(root / "train/a0.png").save(root / "train/a0.png", exif=exif)


def blank(root: Path) -> None:
    Image.new("RGB", (24, 48), (9, 9, 9)).save(root / "query/x0.png")


PLANTED: dict[str, tuple[Plant, str, str, str]] = {
    # what is planted, by: how, the check, what it says is wrong, how to mend it
    "an outfit of two people": (
        replaced("b-red", "a-red"), "dataset", "cannot be used", "different clothes labels",
    ),
    "an identity in train and query": (
        replaced(",a,", ",x,", "train"), "dataset", "cannot be used", "SHARED_IDENTITIES",
    ),
    "an identity without a name": (
        replaced(",a,", ",nan,"), "dataset", "cannot be used", "write the identities",
    ),
    "a picture listed twice": (
        lambda root: table(root, [*ROWS, ROWS[0]]), "dataset", "cannot be used", "each image once",
    ),
    "a picture missing": (
        lambda root: (root / "query/x0.png").unlink(),
        "dataset", "cannot be used", "complete the dataset",
    ),
    "an unknown split": (
        replaced(",train", ",training"), "dataset", "cannot be used", "use one of train",
    ),
    "no gallery": (without("gallery"), "dataset", "cannot be used", "each need images"),
    "a damaged picture": (
        lambda root: (root / "query/x0.png").write_bytes((root / "query/x0.png").read_bytes()[:99]),
        "pictures", "cannot be read", "copy or extract it again",
    ),
    "a text as a picture": (
        lambda root: (root / "query/x0.png").write_text("no picture"),
        "pictures", "cannot be read", "convert it to PNG",
    ),
    "transparent": (
        lambda root: Image.new("RGBA", (24, 48), (1, 2, 3, 4)).save(root / "query/x0.png"),
        "pictures", "cannot be read", "paste it on a background",
    ),
    "grey": (resaved("train/a0.png", "L"), "pictures", "stored as grey", "store them in colour"),
    "grey of 16 bits": (
        resaved("train/a0.png", "I;16"), "pictures", "stored as grey", "store them in colour",
    ),
    "CMYK": (
        resaved("train/a0.png", "CMYK", format="JPEG"), "pictures", "CMYK", "convert them to RGB",
    ),
    "EXIF orientation": (turned, "pictures", "EXIF orientation", "turn the pixels"),
    "a blank picture": (blank, "pictures", "single colour", "copy them again"),
    "an identity with one picture": (
        without("train/a1", "train/a2"), "labels", "with one picture", "add pictures of them",
    ),
    "an identity with one camera": (
        rows(lambda row: row.replace("yard", "door").replace("hall", "door")
             if row.startswith("train/a") else row),
        "labels", "with one camera", "check the camera labels",
    ),
    "one training identity": (
        without("train/b", "train/c"), "labels", "unusable labels", "check the labels",
    ),
    "a query whose person is not in the gallery": (
        without("gallery/x"), "queries", "without a match", "to the gallery",
    ),
    "a query with its own camera only": (
        without("gallery/x1", "gallery/x2", "query/x1", "query/x2"),
        "queries", "without a match", "another camera",
    ),
    "one picture of two identities": (
        copied("gallery/x0.png", "gallery/y0.png"),
        "duplicates", "one picture of two identities", "the right identity",
    ),
    "a query copied into the gallery": (
        copied("query/x0.png", "gallery/x1.png"),
        "duplicates", "own picture is a match", "remove it from the gallery",
    ),
    "a query saved again in the gallery": (
        copied("query/x0.png", "gallery/x1.png", format="JPEG", quality=50),
        "duplicates", "own picture is a match", "remove it from the gallery",
    ),
    "a query resized in the gallery": (
        resized("query/x0.png", "gallery/x1.png"),
        "duplicates", "own picture is a match", "remove it from the gallery",
    ),
    "a picture twice in train": (
        copied("train/a0.png", "train/a1.png"), "duplicates", "twice in a split", "keep one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_mistake_is_found_with_its_remedy(
    planted: str, tree: Path, tmp_path: Path
) -> None:
    plant, *expected = PLANTED[planted]
    plant(root := Path(shutil.copytree(tree, tmp_path / "data")))
    found = check("folder", root)["mistakes"]
    assert len({(kind["check"], kind["what"]) for kind in found}) == 1
    for text, name in zip(expected, ("check", "what", "mend"), strict=True):
        assert text in found[0][name]


def test_all_outfits_of_two_people_are_named(tree: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "data"))
    replaced("b-", "a-")(root)
    (case,) = check("folder", root)["mistakes"][0]["cases"]
    assert "clothes 'a-red' belong to 'a' (line 2) and 'b' (line 5)" in case
    assert case.endswith("; so do 1 label: a-blue")


def test_pictures_of_shared_identities_in_train_and_test_are_found(
    tree: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "data"))
    replaced(",a,", ",x,", "train")(root)
    copied("query/x0.png", "train/a0.png")(root)
    found = check("folder", root, "DATA.SHARED_IDENTITIES", "True")
    assert [kind["what"] for kind in found["mistakes"]] == [
        "pictures in train that are in query or gallery as well"
    ]
    assert any("of persons seen in training" in note for note in found["notes"])


def test_the_first_five_cases_are_printed_and_all_are_in_json(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "data"))
    for path in sorted(root.rglob("*.png"))[:7]:
        resaved(str(path.relative_to(root)), "L")(root)
    line = f"data --dataset folder --root {quoted(root)} --check --json {quoted(tmp_path / 'j')}"
    assert exit_code(line) == 1
    printed = capsys.readouterr().out
    assert "pictures: pictures stored as grey: 7\n" in printed
    assert printed.count("\n  gallery/") == 5
    assert "  … and 2 more\n  mend: store them in colour" in printed
    (kind,) = read(tmp_path / "j")["mistakes"]
    assert (kind["count"], len(kind["cases"])) == (7, 7)


def test_queries_without_a_match_are_counted_by_protocol(tree: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "data"))
    without("gallery/x2", "gallery/y2", "gallery/z2")(root)
    found = check("folder", root)
    counts = {row["protocol"]: row["without a match"] for row in found["protocols"]}
    assert counts == {"general": 0, "SC": 3, "CC": 6}
    assert found["mistakes"] == []
    assert any(note.startswith("test, CC: 6 of 9 queries have no match") for note in found["notes"])


def sound(name: str, root: Path) -> Path:
    """A dataset in a real layout in which each training identity has two cameras."""
    lists, images = dataset_trees.contents(name)
    images = [*images, *MORE.get(name, ())]
    if name == "folder":
        lists = {"records.csv": lists["records.csv"] + "b/2.jpg,ben,yard,blue,train\n"}
        images = [*images, "b/2.jpg"]
    if name == "deepchange":
        line = "P10_C3_20200102_08_49587_0.jpg"
        lists["DeepChangeDataset/train-set-bbox.txt"] += f"{line},4\n"
        images = [*images, f"DeepChangeDataset/train-set/{line}"]
    if name == "ccvid":
        lists["CCVID/train.txt"] += "session1/012_03\t012\tu0_l0_s0_c0_a0\r\n"
        images = [*images, *dataset_trees.frames("session1/012_03", range(1, 4))]
    dataset_trees.fill(dataset_trees.write(root, lists, images), 32, 16)
    return root


@pytest.mark.parametrize("name", READERS)
def test_sound_data_have_no_mistakes(name: str, tmp_path: Path) -> None:
    found = check(name, sound(name, tmp_path))
    assert found["mistakes"] == []
    assert all(row["checked"] and not row["wrong"] for row in found["checks"])


@pytest.mark.parametrize("name", ["toy-reid", "toy-reid-video"])
def test_toy_data_have_no_mistakes(name: str, tmp_path: Path) -> None:
    assert check(name, tmp_path, *TOY.split())["mistakes"] == []
