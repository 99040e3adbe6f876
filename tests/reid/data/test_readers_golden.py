"""The readers' labels, equal to the recorded ones of the original."""

from pathlib import Path
from typing import Any

import pytest

from ffreid.reid.data.readers import READERS
from ffreid.reid.data.records import Record, Source
from tests.golden import facts, recordings
from tests.reid.dataset_trees import write

pytestmark = pytest.mark.golden

NAMES = ["ltcc", "prcc", "vcclothes", "vcclothes_sc", "vcclothes_cc", "last", "deepchange", "ccvid"]
PICTURES = [name for name in NAMES if name != "ccvid"]
SORTED_BY_SYSTEM = ("prcc",)
"""Where the original's order depends on the file system."""


@pytest.fixture(params=recordings("ccreid", "datasets.json"))
def recorded(request: pytest.FixtureRequest) -> Any:
    return facts("ccreid", request.param)


def _read(recorded: Any, name: str, folder: Path) -> Source:
    tree = recorded[name]
    empty = list(tree.get("empty_files", ()))
    for tracklet, count in tree.get("n_frames", {}).items():
        empty += [f"CCVID/{tracklet}/{number:05d}.jpg" for number in range(1, count + 1)]
    return READERS[name](write(folder, tree.get("files", {}), empty))


def _tuples(source: Source, records: tuple[Record, ...]) -> list[list[Any]]:
    home = source.folder.name
    return [[f"{home}/{r.frames[0]}", r.identity, r.camera, r.clothes] for r in records]


def _splits(source: Source) -> dict[str, tuple[Record, ...]]:
    """Records under the names of the original's attributes."""
    query = source.test.query
    found = {"train": source.train, "query": query, "gallery": source.test.gallery}
    found["query_same"] = tuple(record for record in query if record.camera == 1)
    found["query_diff"] = tuple(record for record in query if record.camera == 2)
    if source.val:
        found |= {"val_query": source.val.query, "val_gallery": source.val.gallery}
        found["val"] = source.val.query + source.val.gallery
    return found


@pytest.mark.parametrize("name", NAMES)
def test_training_labels_and_their_counts_equal_the_recorded(
    name: str, recorded: Any, tmp_path: Path
) -> None:
    source, expected = _read(recorded, name, tmp_path), recorded[name]["expected"]
    assert len(source.identities) == expected["num_train_pids"]
    assert len(source.clothes) == expected["num_train_clothes"]
    assert source.clothes_of_identity().astype(int).tolist() == expected["pid2clothes"]


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_and_their_labels_equal_the_recorded(
    name: str, recorded: Any, tmp_path: Path
) -> None:
    source, expected = _read(recorded, name, tmp_path), recorded[name]["expected"]
    splits = _splits(source)
    checked = [split for split in splits if split in expected]
    assert {"train", "gallery"} < set(checked)
    for split in checked:
        ours, theirs = _tuples(source, splits[split]), expected[split]
        if name in SORTED_BY_SYSTEM:
            ours, theirs = sorted(ours), sorted(theirs)
        assert ours == theirs, split


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_split_is_read(name: str, recorded: Any, tmp_path: Path) -> None:
    splits = _splits(_read(recorded, name, tmp_path))
    labels = {key for key, value in recorded[name]["expected"].items() if key in splits}
    others = {"num_train_pids", "num_train_clothes", "pid2clothes", "pid2clothes_dtype"}
    clips = {key for key in recorded[name]["expected"] if "recombined" in key or "clip" in key}
    assert set(recorded[name]["expected"]) - labels - others - clips <= {
        "train_dense",
        "gallery_idx",
    }


def test_the_order_of_prcc_is_the_sorted_one_that_is_recorded(
    recorded: Any, tmp_path: Path
) -> None:
    source, expected = _read(recorded, "prcc", tmp_path), recorded["prcc"]["expected"]
    for split in ("train", "gallery", "query_same", "query_diff"):
        assert _tuples(source, _splits(source)[split]) == expected[split], split


def test_single_shot_galleries_of_prcc_equal_the_recorded(recorded: Any, tmp_path: Path) -> None:
    source, expected = _read(recorded, "prcc", tmp_path), recorded["prcc"]["expected"]
    trials = [expected["gallery_idx"][str(trial)] for trial in range(10)]
    assert list(map(list, source.single_shot)) == trials


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_tracklets_of_ccvid_equal_the_recorded(split: str, recorded: Any, tmp_path: Path) -> None:
    source = _read(recorded, "ccvid", tmp_path)
    ours = [
        [f"CCVID/{r.frames[0].rpartition('/')[0]}", len(r.frames), r.identity, r.camera, r.clothes]
        for r in _splits(source)[split]
    ]
    assert ours == recorded["ccvid"]["expected"][split]
