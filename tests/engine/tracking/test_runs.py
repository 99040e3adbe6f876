"""Runs are listed with their state, their best metric and the settings that differ."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ffreid.engine.tracking.runs import differing_keys, find_runs, list_runs
from ffreid.errors import UserError
from tests.engine.example_runs import run_folder

SETTINGS: dict[str, Any] = {"DATASET": "toy-reid", "TASK": "reid", "OUTPUT": "runs", "TAG": "a"}
SETTINGS |= {"SEED": 0, "TRAIN": {"STEPS": 20, "LR": 0.1}}
ROWS: list[dict[str, Any]] = [
    {"step": 10, "train/loss": 3.0},
    {"step": 10, "validation/loss": 2.0, "validation/CC rank-1": 0.5},
    {"step": 20, "train/loss": 1.5},
    {"step": 20, "validation/loss": 2.5, "validation/CC rank-1": 0.25},
    {"step": 20, "train/loss": None},
]


def rows(*folders: Path) -> list[dict[str, Any]]:
    return list_runs(folders, json_file=None)


def test_a_run_has_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {"state": "finished", "step": 20, "total": 20, "best": 0.5, "best_name": "CC rank-1"}
    folder = run_folder(tmp_path / "toy-reid" / "first", SETTINGS, ROWS, state=state)
    (row,) = rows(tmp_path)
    assert row == {
        "run": "toy-reid/first",
        "folder": folder,
        "dataset": "toy-reid",
        "state": "finished",
        "step": 20,
        "total": 20,
        "best": 0.5,
        "metric": "CC rank-1",
        "loss": 1.5,
        "started": "2026-11-22T12:11:38+0000",
        "settings": {},
    }
    printed = capsys.readouterr().out.split()
    assert {"toy-reid/first", "20/20", "0.5000", "1.5000", "12:11"} <= set(printed)


def test_settings_that_differ_are_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder(tmp_path / "a", SETTINGS)
    changed = {"TAG": "b", "OUTPUT": "else", "SEED": 1, "ROOT": "/a/long/path/to/the/data"}
    run_folder(tmp_path / "b", SETTINGS | changed | {"TRAIN": {"STEPS": 20, "LR": 0.2}})
    first, second = rows(tmp_path)
    assert first["settings"] == {"SEED": 0, "TRAIN.LR": 0.1}
    assert second["settings"] == {"SEED": 1, "TRAIN.LR": 0.2}
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if "dataset" in line)
    assert header.split()[-2:] == ["SEED", "TRAIN.LR"]


def test_long_settings_are_shortened_and_further_ones_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        many = {f"KEY{index}": f"{'long' * 20}/{name}{index}" for index in range(9)}
        run_folder(tmp_path / name, SETTINGS | many)
    list_runs([tmp_path], json_file=tmp_path / "runs.json")
    printed = capsys.readouterr()
    assert "ng/a0" in printed.out
    assert "longlonglonglonglonglong" not in printed.out
    assert printed.err == "note: 3 more settings differ: KEY6, KEY7, KEY8\n"
    written = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert written[0]["settings"]["KEY8"] == f"{'long' * 20}/a8"


def test_settings_that_differ_within_a_dataset_come_first() -> None:
    settings = [
        {"DATASET": "ltcc", "A": 1, "B": 1},
        {"DATASET": "ltcc", "A": 1, "B": 2},
        {"DATASET": "prcc", "A": 2, "B": 1},
    ]
    assert differing_keys(settings) == ["B", "A"]


@pytest.mark.parametrize(
    ("metrics", "state", "step"),
    [(ROWS, "finished", 20), (ROWS[:1], "unknown", 10), ([], "unknown", 0)],
)
def test_state_of_a_run_of_an_earlier_version(
    tmp_path: Path, metrics: list[dict[str, Any]], state: str, step: int
) -> None:
    run_folder(tmp_path / "old", SETTINGS, metrics)
    (row,) = rows(tmp_path)
    assert (row["state"], row["step"], row["total"]) == (state, step, 20)


@pytest.mark.parametrize(
    ("selected", "best"),
    [(None, ("loss", 2.0)), ("CC rank-1", ("CC rank-1", 0.5)), ("CC mAP", None)],
)
def test_best_value_of_a_run_of_an_earlier_version(
    tmp_path: Path, selected: str | None, best: tuple[str, float] | None
) -> None:
    folder = run_folder(tmp_path / "old", SETTINGS, ROWS)
    if selected is not None:
        (folder / "validation-best.json").write_text(json.dumps({"selected_by": selected}))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "train/lo')  # is ignored
    (run,) = find_runs([tmp_path])
    assert (run.best, run.metrics) == (best, ROWS)


def test_folders_may_overlap_and_hide_runs(tmp_path: Path) -> None:
    first = run_folder(tmp_path / "toy" / "first", SETTINGS)
    run_folder(first / "last", SETTINGS)
    run_folder(tmp_path / "toy" / ".hidden", SETTINGS)
    assert [run.name for run in find_runs([first, tmp_path])] == ["first"]


def test_runs_with_the_same_name_are_listed_with_their_path(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path / name / "toy" / "run", SETTINGS) for name in "ab"]
    runs = find_runs([tmp_path / "a", tmp_path / "b"])
    assert [run.name for run in runs] == list(map(str, folders))


def test_a_missing_folder_one_without_runs_and_an_unreadable_file_are_errors(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=r"no folder .*empty"):
        rows(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no run in .*empty"):
        rows(tmp_path / "empty")
    folder = run_folder(tmp_path / "broken", SETTINGS)
    for name in ("run.json", "config.yaml"):
        (folder / name).write_text("{")
        with pytest.raises(UserError, match=f"cannot read .*{name}"):
            rows(tmp_path)


def test_listing_needs_no_torch() -> None:
    code = "import sys, ffreid.engine.tracking.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
