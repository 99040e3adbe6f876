"""Runs are plotted with gaps where a value is NaN, and the file is where it is expected."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffreid.engine.dataset_files import read_image
from ffreid.engine.tracking.plot import default_file, plot_runs, smoothed
from ffreid.errors import UserError
from tests.engine.example_runs import run_folder

SETTINGS = {"DATASET": "toy-reid", "TRAIN": {"STEPS": 0}}
BLUE, RED = (31, 119, 180), (214, 39, 40)


def rows(count: int, level: float = 1.0) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, count + 1):
        loss = None if step == 3 else level / step
        row = {"step": step, "lr": 1e-3 / step, "train/loss": loss, "train/pair": level}
        rows.append(row | {"lr/clothes": 1e-3, "norm/net": 2.0})
        if step % 2 == 0:
            rows.append({"step": step, "validation/loss": level, "validation/CC rank-1": 0.5})
            rows.append({"step": step, "validation-ema/CC rank-1": 0.25, "save/last.pth MB": 1.0})
    return rows


def has_color(path: Path, color: tuple[int, int, int]) -> bool:
    return bool((read_image(path) == color).all(axis=2).any())


def test_each_run_is_plotted_in_its_color(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    first = run_folder(tmp_path / "runs" / "first", SETTINGS, rows(6))
    run_folder(tmp_path / "runs" / "second", SETTINGS, rows(120, 2.0))
    run_folder(tmp_path / "runs" / "without-metrics", SETTINGS)
    for folder, colors in ((first, (True, False)), (tmp_path / "runs", (True, True))):
        file = plot_runs([folder], file=tmp_path / "new" / "curves.png")
        assert file == tmp_path / "new" / "curves.png"
        assert tuple(map(partial(has_color, file), (BLUE, RED))) == colors


def test_smoothing_keeps_gaps() -> None:
    values = np.array([1.0, 3.0] * 100)
    values[50] = np.nan
    means = smoothed(values)
    assert np.flatnonzero(np.isnan(means)) == [50]
    assert means[100:150] == pytest.approx(np.full(50, 2.0), abs=0.3)
    assert smoothed(values[:9]) == pytest.approx(values[:9])


def test_default_file(tmp_path: Path) -> None:
    first, second = (run_folder(tmp_path / "toy" / name, SETTINGS) for name in "ab")
    assert default_file([first]) == first / "curves.png"
    assert default_file([first, second]) == tmp_path / "toy" / "curves.png"


def test_runs_without_metrics_and_an_unwritable_file_are_errors(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    empty = run_folder(tmp_path / "empty", SETTINGS)
    run_folder(tmp_path / "without-metrics", SETTINGS, [{"step": 1, "save/last.pth MB": 1.0}])
    with pytest.raises(UserError, match="no metrics"):
        plot_runs([tmp_path], file=tmp_path / "curves.png")
    run_folder(tmp_path / "run", SETTINGS, [{"step": 1, "lr": 0.1}])
    with pytest.raises(UserError, match=r"run\.json/curves\.png"):
        plot_runs([tmp_path], file=empty / "run.json" / "curves.png")


def test_a_missing_package_is_an_error_with_the_command_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="runs plot") as caught:
        plot_runs([tmp_path], file=tmp_path / "curves.png")
    assert caught.value.hint == "pip install 'ffreid[plot]'"


@pytest.mark.parametrize("name", ["$x_{$", "a\x1b[2J\n", "100 % $5", "$$"])
def test_names_of_runs_are_not_formulas(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    run_folder(tmp_path / name, SETTINGS, rows(3))
    assert plot_runs([tmp_path], file=tmp_path / "a.png").is_file()
