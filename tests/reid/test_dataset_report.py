"""Image and identity counts of the datasets, compared with the published ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ffreid.reid.data.readers import READERS
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.dataset_report import compare, report_dataset, statistics
from ffreid.reid.resources import resource
from tests.reid import dataset_trees
from tests.reid.synthetic_features import empty_source


def counts(name: str, folder: Path) -> dict[str, dict[str, Any]]:
    source = READERS[name](dataset_trees.build(name, folder))
    return {row["split"]: row for row in statistics(source, resource("counts")[name])}


def records(sizes: dict[str, int], identity: int = 0) -> tuple[Record, ...]:
    """Records with the numbers of identities, clothes labels and images in `sizes`."""
    return tuple(
        Record(
            (f"{i}.png",),
            identity + i % sizes["identities"],
            i % 12,
            i % sizes.get("outfits", sizes["identities"]),
        )
        for i in range(sizes["pictures"])
    )


@pytest.fixture
def ltcc() -> Source:
    """A source with the published counts of LTCC."""
    train = records({"identities": 77, "outfits": 77 * 256, "pictures": 9576})
    train = tuple(Record(r.frames, r.identity, r.camera, r.clothes % 256) for r in train)
    query = records({"identities": 75, "outfits": 221, "pictures": 493}, 100)
    gallery = records({"identities": 75, "outfits": 221, "pictures": 7050}, 100)
    test = EvalSplit(query=query, gallery=gallery, protocols=())
    return empty_source(test, train=train, notes=("something to know",))


def test_each_split_and_the_total_are_counted(tmp_path: Path) -> None:
    rows = counts("ltcc", tmp_path)
    assert list(rows["train"]) == ["split", "identities", "outfits", "cameras", "pictures"]
    assert list(rows["train"].values()) == ["train", 3, 5, 5, 6]
    assert list(rows["test"].values()) == ["test", 3, 5, 5, 7]
    assert (rows["query"]["pictures"], rows["gallery"]["pictures"]) == (2, 5)
    assert list(rows["total"].values()) == ["total", 6, 10, 8, 13]
    assert "val" not in rows


def test_tracklets_and_their_frames_are_counted(tmp_path: Path) -> None:
    rows = counts("ccvid", tmp_path)
    assert (rows["gallery"]["tracklets"], rows["gallery"]["frames"]) == (2, 10)
    assert (rows["total"]["tracklets"], rows["total"]["frames"]) == (6, 30)
    assert "pictures" not in rows["total"]


def test_identities_in_training_and_validation_are_counted_once(tmp_path: Path) -> None:
    rows = counts("prcc", tmp_path)
    assert rows["val"]["pictures"] == 5
    assert (rows["total"]["identities"], rows["total"]["outfits"]) == (4, 8)
    assert rows["total"]["pictures"] == 6 + 5 + 8


def test_distractors_of_test_and_validation_are_one_identity(tmp_path: Path) -> None:
    # 2 in training, 5001 in validation, 5100 and 5250 in the test, 999999 in both.
    assert counts("last", tmp_path)["total"]["identities"] == 6


@pytest.mark.parametrize(
    ("name", "unknown"), [("last", "cameras"), ("deepchange", "cameras"), ("market1501", "outfits")]
)
def test_unknown_labels_are_not_counted(name: str, unknown: str, tmp_path: Path) -> None:
    rows = counts(name, tmp_path)
    assert all(row[unknown] is None for row in rows.values())
    if name == "last":
        assert rows["train"]["outfits"] == 3
        assert all(rows[split]["outfits"] is None for split in ("query", "test", "val", "total"))
    if name == "market1501":
        assert rows["total"]["cameras"] == 3


def test_a_complete_dataset_has_no_differences(ltcc: Source) -> None:
    rows = statistics(ltcc, resource("counts")["ltcc"])
    assert compare(rows, resource("counts")["ltcc"]["releases"]) == "CAL paper, Table 1"
    differences = [d for row in rows for d in row.get("difference", {}).values()]
    assert differences
    assert set(differences) == {0}


def test_differences_are_printed_and_written(
    ltcc: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    incomplete = replace(ltcc, train=ltcc.train[:-3])
    payload = report_dataset("ltcc", incomplete, tmp_path / "counts.json")
    printed = capsys.readouterr()
    line = next(text for text in printed.out.splitlines() if text.split()[:1] == ["train"])
    assert " ".join(line.split()) == "train 77 77 256 256 12 9573 ≠ 9576 recalled"
    assert printed.out.count("≠") == 2  # in the total too
    assert "CAL paper, Table 1" in printed.out
    assert "note: something to know" in printed.err
    assert json.loads((tmp_path / "counts.json").read_text()) == payload
    train = payload["rows"][0]
    assert train["difference"] == {"identities": 0, "outfits": 0, "pictures": -3}


def test_counts_are_compared_with_the_nearest_release() -> None:
    rows: list[dict[str, Any]] = [{"split": "train", "pictures": 71248}]
    releases = resource("counts")["last"]["releases"]
    assert compare(rows, releases) == "later release, its README"
    assert rows[0]["difference"] == {"pictures": 0}


@pytest.mark.parametrize("name", READERS)
def test_every_dataset_has_a_report(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = report_dataset(name, READERS[name](dataset_trees.build(name, tmp_path)), None)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].startswith(name)
    assert ("≠" in printed.out) == (name != "folder")
    assert printed.err.count("note: ") == len(payload["notes"])


@pytest.mark.parametrize("name", sorted(resource("counts")))
def test_published_counts_add_up_to_their_total(name: str) -> None:
    for release in resource("counts")[name]["releases"]:
        rows = release["rows"]
        for quantity in ("pictures", "tracklets", "frames"):
            total = rows.get("total", {}).get(quantity)
            parts = [
                row[quantity]
                for split, row in rows.items()
                if quantity in row and split not in ("total", "test")
            ]
            if total is not None and len(parts) > 1:
                assert sum(parts) == total, (name, quantity)
