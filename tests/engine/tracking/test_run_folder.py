"""The run folder has the provenance and metrics of a run, also after interruptions."""

import json
import math
import multiprocessing
import resource
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from yacs.config import CfgNode

from ffreid.engine.tracking import run_folder, run_state
from ffreid.errors import UserError
from tests.engine.checkpoints.test_manager import raising


def test_a_folder_is_created_empty_or_is_an_error(tmp_path: Path) -> None:
    folder = run_folder.create_folder(tmp_path / "runs" / "toy")
    assert list(folder.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/runs") as caught:
        run_folder.create_folder(tmp_path / "file" / "runs")
    assert "--output" in caught.value.hint


def test_configuration_and_provenance_can_be_read_back(tmp_path: Path) -> None:
    cfg = CfgNode({"SEED": 3, "TRAIN": {"LR_MAX": 1e-3, "LIST": ["a"]}})
    run_folder.write_start(tmp_path, cfg, run_folder.provenance(3, 2, "cpu"))
    with (tmp_path / "config.yaml").open() as file:
        assert CfgNode.load_cfg(file) == cfg
    facts = json.loads((tmp_path / "run.json").read_text())
    assert (facts["seed"], facts["processes"], facts["device"]) == (3, 2, "cpu")
    assert isinstance(facts["command"], list)
    assert set(facts["versions"]) == {"ffreid", "torch", "numpy", "scipy"}
    assert facts["versions"]["torch"]


def test_provenance_has_the_commit_of_the_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    git = run_folder.provenance(0, 1, "cpu")["git"]
    assert git == ({"commit": commit, "changed": git["changed"]} if commit else None)
    monkeypatch.setenv("PATH", str(tmp_path))  # a machine without git
    assert run_folder.provenance(0, 1, "cpu")["git"] is None


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("step", "expected"), [(0, []), (2, [1, 2, 2]), (9, [1, 2, 2, 3])])
def test_a_resumed_run_removes_rows_after_its_step(
    tmp_path: Path, step: int, expected: list[int]
) -> None:
    values: dict[int, float | None] = {1: 0.1 + 0.2, 2: math.nan, 3: 1.0}
    for number in (1, 2, 2, 3):
        run_folder.append_metrics(tmp_path, {"step": number, "loss": values[number]})
    run_folder.truncate_metrics(tmp_path, step)
    values[2] = None  # JSON has no NaN
    assert rows(tmp_path) == [{"step": number, "loss": values[number]} for number in expected]


# The last row of a killed process, one appended to it, and what a power cut leaves.
BROKEN = ['{"step": 1, "lo', '{"step": 1, "lo{"step": 1}\n', "\0\0\0\n", "[1]\n", '{"a": 1}\n']


@pytest.mark.parametrize("line", BROKEN)
def test_an_incomplete_row_is_removed(tmp_path: Path, line: str) -> None:
    run_folder.append_metrics(tmp_path, {"step": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(line)
    run_folder.truncate_metrics(tmp_path, 1)
    run_folder.append_metrics(tmp_path, {"step": 2})
    assert rows(tmp_path) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize(
    ("count", "expected"), [(0, ""), (1, "Epoch1 für\n"), (9, "Epoch1 für\nEpoch2\n")]
)
def test_a_resumed_run_removes_later_and_incomplete_lines_of_the_log(
    tmp_path: Path, count: int, expected: str
) -> None:
    run_folder.truncate_log(tmp_path, count)
    assert list(tmp_path.iterdir()) == []
    for line in ("Epoch1 für", "Epoch2"):
        run_folder.append_line(tmp_path, line)
    with (tmp_path / "log_train.log").open("ab") as file:
        file.write("Epoch3 fü".encode()[:-1])
    run_folder.truncate_log(tmp_path, count)
    assert (tmp_path / "log_train.log").read_text() == expected


CFG = CfgNode({"SEED": 4})
WRITES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "config": ("config.yaml", lambda folder: run_folder.write_start(folder, CFG, {"seed": 4})),
    "rows": ("metrics.jsonl", lambda folder: run_folder.truncate_metrics(folder, 1)),
    "lines": ("log_train.log", lambda folder: run_folder.truncate_log(folder, 1)),
    "row": ("metrics.jsonl", lambda folder: run_folder.append_metrics(folder, {"step": 3})),
    "line": ("log_train.log", lambda folder: run_folder.append_line(folder, "Epoch3")),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with every file."""
    folder = tmp_path / "run"
    folder.mkdir()
    run_folder.write_start(folder, CfgNode({"SEED": 3}), {"seed": 3})
    for step in (1, 2):
        run_folder.append_metrics(folder, {"step": step})
        run_folder.append_line(folder, f"Epoch{step}")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["config", "rows", "lines"])
def test_a_kill_while_a_file_is_rewritten_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    before = contents(folder)
    monkeypatch.setattr(Path, "replace", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        WRITES[kind][1](folder)
    assert contents(folder) == before


def write_on_full_disk(folder: Path, connection: Any) -> None:
    """Try all writes with a file size limit of 0; send the error messages."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    messages = {}
    for kind, (_, write) in WRITES.items():
        try:
            write(folder)
        except UserError as error:
            messages[kind] = error.message
    connection.send(messages)


def test_a_full_disk_is_an_error_and_the_files_stay(folder: Path) -> None:
    before = contents(folder)
    reading, writing = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=write_on_full_disk, args=(folder, writing)
    )
    process.start()
    writing.close()
    messages = reading.recv()
    process.join()
    assert messages == {
        kind: f"cannot write {folder / name}: File too large" for kind, (name, _) in WRITES.items()
    }
    assert contents(folder) == before


@pytest.mark.parametrize("kind", ["config", "row", "line"])
def test_a_folder_that_was_removed_is_an_error(tmp_path: Path, kind: str) -> None:
    name, write = WRITES[kind]
    with pytest.raises(UserError, match=rf"gone/{name}: No such file") as caught:
        write(tmp_path / "gone")
    assert "--resume auto" in caught.value.hint


@pytest.mark.parametrize(
    ("files", "refused_new", "refused_restart"),
    [
        ([], False, False),
        ([".lock", "results.json", "mine.txt"], False, False),
        (["run.json"], True, False),
        (["config.yaml"], True, False),
        (["metrics.jsonl", "log_train.log"], True, False),
        (["best.pth", "run.json"], True, True),
        (["validation-last.json"], True, True),
        (["epoch-0003.pth"], True, False),  # the newest valid one is resumed from
        (["finished", "run.json"], True, True),
    ],
)
def test_any_file_of_a_run_is_detected(
    tmp_path: Path, files: list[str], refused_new: bool, refused_restart: bool
) -> None:
    for name in files:
        if name == "finished":
            run_state.write(tmp_path, {"state": "finished"})
        else:
            (tmp_path / name).touch()
    for is_restart, refused in ((False, refused_new), (True, refused_restart)):
        with pytest.raises(UserError, match="--tag NAME") if refused else nullcontext():
            run_folder.check_no_run(tmp_path, is_restart=is_restart)
