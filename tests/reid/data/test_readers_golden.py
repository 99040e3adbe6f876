"""The labels of the readers against the recorded ones."""

from pathlib import Path
from typing import Any

import pytest

from ffreid.reid.data.readers import READERS
from ffreid.reid.data.records import Record, Source
from tests.golden import facts, recordings
from tests.reid.dataset_trees import write

pytestmark = pytest.mark.golden

NAMES = ["ltcc", "prcc", "vcclothes", "vcclothes_sc", "vcclothes_cc", "last", "deepchange", "ccvid"]


@pytest.fixture(params=recordings("ccreid", "datasets.json"))
def recorded(request: pytest.FixtureRequest) -> Any:
    return facts("ccreid", request.param)


def _read(recorded: Any, name: str, folder: Path) -> Source:
    tree = recorded[name]
    empty = list(tree.get("empty_files", ()))
    for tracklet, count in tree.get("n_frames", {}).items():
        empty += [f"CCVID/{tracklet}/{number:05d}.jpg" for number in range(1, count + 1)]
    return READERS[name](write(folder, tree.get("files", {}), empty))


def _rows(source: Source, records: tuple[Record, ...]) -> list[list[Any]]:
    """Path and labels of images; path, number of frames and labels of tracklets."""
    rows = []
    for record in records:
        path = f"{source.folder.name}/{record.frames[0]}"
        start = [path.rpartition("/")[0], len(record.frames)] if source.video else [path]
        rows.append([*start, record.identity, record.camera, record.clothes])
    return rows


def _splits(source: Source) -> dict[str, tuple[Record, ...]]:
    """Records under the names of the original's attributes."""
    query = source.test.query
    actual = {"train": source.train, "query": query, "gallery": source.test.gallery}
    actual["query_same"] = tuple(record for record in query if record.camera == 1)
    actual["query_diff"] = tuple(record for record in query if record.camera == 2)
    if source.val:
        actual |= {"val_query": source.val.query, "val_gallery": source.val.gallery}
        actual["val"] = source.val.query + source.val.gallery
    return actual


@pytest.mark.parametrize("name", NAMES)
def test_labels_and_their_counts_equal_the_recorded(
    name: str, recorded: Any, tmp_path: Path
) -> None:
    source, expected = _read(recorded, name, tmp_path), recorded[name]["expected"]
    assert len(source.identities) == expected["num_train_pids"]
    assert len(source.clothes) == expected["num_train_clothes"]
    assert source.clothes_of_identity().astype(int).tolist() == expected["pid2clothes"]
    splits = _splits(source)
    compared = [split for split in splits if split in expected]
    assert {"train", "gallery"} < set(compared)
    for split in compared:
        rows, recorded_rows = _rows(source, splits[split]), expected[split]
        # Where the order of the original depends on the file system.
        if name == "prcc" and split not in ("train", "gallery", "query_same", "query_diff"):
            rows, recorded_rows = sorted(rows), sorted(recorded_rows)
        assert rows == recorded_rows, split
    others = {"num_train_pids", "num_train_clothes", "pid2clothes", "pid2clothes_dtype"}
    clips = {key for key in expected if "recombined" in key or "clip" in key}
    assert set(expected) - set(compared) - others - clips <= {"train_dense", "gallery_idx"}


def test_single_shot_galleries_of_prcc_equal_the_recorded(recorded: Any, tmp_path: Path) -> None:
    source, expected = _read(recorded, "prcc", tmp_path), recorded["prcc"]["expected"]
    trials = [expected["gallery_idx"][str(trial)] for trial in range(10)]
    assert list(map(list, source.single_shot)) == trials
