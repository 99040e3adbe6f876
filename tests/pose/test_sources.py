"""Datasets by layout: adding one takes a reader and an entry in each of two tables."""

from pathlib import Path

import numpy as np
import pytest
from yacs.config import CfgNode

from ffreid import recipes
from ffreid.errors import UserError
from ffreid.pose import build, defaults, sources
from ffreid.pose.data.batch import Sample
from ffreid.pose.data.ycb import YcbReader
from ffreid.pose.objects import ObjectModels, folder_objects
from ffreid.pose.toy.dataset import toy_object_models
from tests.makers import toy_folder


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_folder(tmp_path_factory.mktemp("sources"), frames=1, test_frames=1, synthetic=0)


def test_both_tables_have_the_same_layouts() -> None:
    assert sources.LAYOUTS.keys() == defaults.LAYOUTS.keys()


def test_a_dataset_is_added_with_a_reader_and_an_entry_in_each_table(
    toy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def objects(cfg: CfgNode) -> ObjectModels:
        return folder_objects(cfg.DATASET, Path(cfg.DATA.ROOT))

    monkeypatch.setitem(defaults.LAYOUTS, "mine", "data/SSSS/…, models/…")
    monkeypatch.setitem(defaults.CHOICES, "DATA.LAYOUT", tuple(defaults.LAYOUTS))
    layout = sources.Layout(YcbReader, objects, options=lambda cfg: {"intrinsics": "meta"})
    monkeypatch.setitem(sources.LAYOUTS, "mine", layout)
    pairs = ("DATA.LAYOUT", "mine", "MODEL.POINTS", "1024")
    source = sources.open_source(recipes.compose("ycb", root=toy, pairs=pairs))
    assert source.objects.names == ("tall_box", "can", "egg", "small_box", "bowl")
    assert len(source.meshes) == 5
    cfg = recipes.compose("ycb", root=toy, pairs=pairs)
    assert isinstance(build.training_set(cfg, source)[0, 0], Sample)
    with pytest.raises(UserError) as caught:
        sources.open_source(recipes.compose("ycb", root=tmp_path / "no", pairs=pairs))
    assert "models/…" in caught.value.hint


def test_the_toy_objects_are_those_of_the_toy_data(toy: Path) -> None:
    ours, stored = toy_object_models("toy-pose"), folder_objects("toy-pose", toy)
    assert (ours.names, ours.symmetric) == (stored.names, stored.symmetric)
    for field in ("keypoints", "corners", "radii"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(stored, field))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("dataset_config/classes.txt", None, "no file .*classes.txt"),
        ("dataset_config/radius.txt", "0.1\n", r"radius.txt: shape \(1,\)"),
        ("ycb_kps/can_8_kps.txt", "1 2\n", r"can_8_kps.txt: shape"),
        ("ycb_kps/can_corners.txt", "a b c\n", "cannot read .*can_corners.txt"),
        ("ycb_kps/can_corners.txt", None, "cannot read .*can_corners.txt"),
    ],
)
def test_invalid_object_files_are_named(
    tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    folder = toy_folder(tmp_path, frames=1, test_frames=1, synthetic=0, height=16, width=16)
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        folder_objects("toy-pose", folder)
