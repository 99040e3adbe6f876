"""``ffreid data --show``: sheets of identities, and an augmented batch."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ffreid
from ffreid.reid.data.records import Record
from ffreid.reid.samples import COLUMNS, _varied
from tests.commands import exit_code, quoted
from tests.reid import dataset_trees
from tests.reid.command_line import SETTINGS


@pytest.mark.parametrize("dataset", ["toy-reid", "toy-reid-video"])
def test_identities_and_a_batch_are_drawn(dataset: str, tmp_path: Path) -> None:
    line = f"data --dataset {dataset} --root {quoted(tmp_path)} --show 2 {SETTINGS}"
    assert exit_code(f"{line} --output {quoted(tmp_path / 'out')}") == 0
    images = {path.name: np.asarray(Image.open(path)) for path in (tmp_path / "out").glob("*.png")}
    assert sorted(images) == ["batch.png", "test-00.png", "train-00.png"]
    assert images["train-00.png"].shape[0] > 2 * 192


def test_many_identities_are_on_several_sheets_and_train_can_be_missing(tmp_path: Path) -> None:
    rows = ["path,identity,camera,clothes,split"]
    for number in range(12):
        rows += [f"{number}-{s}.png,p{number},{s},p{number}-a,{s}" for s in ("query", "gallery")]
    images = [row.partition(",")[0] for row in rows[1:]]
    dataset_trees.write(tmp_path, {"records.csv": "\n".join(rows) + "\n"}, images)
    dataset_trees.fill(tmp_path, 32, 16)
    drawn = ffreid.draw_samples("folder", tmp_path / "out", 12, root=tmp_path)
    assert [path.name for path in drawn] == ["test-00.png", "test-01.png"]
    assert all(path.is_file() for path in drawn)


def test_all_outfits_are_shown_before_an_outfit_is_again() -> None:
    records = [
        Record((f"{clothes}-{camera}-{number}.png",), 0, camera, clothes)
        for clothes in range(6)
        for camera in range(4)
        for number in range(3)
    ]
    chosen = _varied(records, COLUMNS)
    assert [record.clothes for record in chosen] == sorted([*range(6)] * 2)
    assert {record.camera for record in _varied(records, 6)} == set(range(4))
