"""A new dataset is a reader, an entry of `DATASETS` and a recipe."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from ffreid import recipes
from ffreid.reid import defaults, sources
from ffreid.reid.data import readers
from ffreid.reid.data.readers import ltcc
from ffreid.reid.datasets import DATASETS, DatasetInfo
from tests.commands import exit_code
from tests.reid import dataset_trees


def test_a_new_dataset_is_a_reader_an_entry_and_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = ModuleType(f"{readers.__name__}.mydata")
    module.__dict__["read"] = ltcc.read
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(DATASETS, "mydata", DatasetInfo("mydata:read", "LTCC_ReID/…"))
    (tmp_path / "reid").mkdir()
    (tmp_path / "reid/mydata.yaml").write_text("DATA:\n  LAYOUT: mydata\n")
    monkeypatch.setattr(recipes, "recipe_folder", lambda: tmp_path)
    # Computed from the table when the modules are imported.
    monkeypatch.setitem(defaults.CHOICES, "DATA.LAYOUT", tuple(DATASETS))
    monkeypatch.setitem(readers.READERS, "mydata", readers.find_reader("mydata"))
    dataset_trees.build("ltcc", tmp_path / "data")
    source = sources.open_source(recipes.compose("mydata", root=tmp_path / "data"))
    assert len(source.train) == 6
    assert exit_code(f"data --dataset mydata --root {tmp_path / 'data'}") == 0
    assert "6" in capsys.readouterr().out
