"""The run folder says how a run was started and how it went."""

import json
import multiprocessing
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from yacs.config import CfgNode

from ffreid.engine.tracking import run_folder
from ffreid.errors import UserError


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = run_folder.create_folder(tmp_path / "runs" / "toy")
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/runs") as caught:
        run_folder.create_folder(tmp_path / "file" / "runs")
    assert "--output" in caught.value.hint


def test_the_start_can_be_read_back(tmp_path: Path) -> None:
    cfg = CfgNode({"SEED": 3, "TRAIN": {"LR_MAX": 1e-3, "LIST": ["a"]}})
    run_folder.write_start(tmp_path, cfg, run_folder.provenance(3, 2, "cpu"))
    with (tmp_path / "config.yaml").open() as file:
        assert CfgNode.load_cfg(file) == cfg
    facts = json.loads((tmp_path / "run.json").read_text())
    assert (facts["seed"], facts["processes"], facts["device"]) == (3, 2, "cpu")
    assert isinstance(facts["command"], list)
    assert {"ffreid", "torch", "numpy", "scipy"} == set(facts["versions"])
    assert facts["versions"]["torch"]


def test_the_commit_of_the_checkout_is_recorded() -> None:
    here = Path(__file__).resolve().parent
    words = ["git", "-C", str(here), "rev-parse", "HEAD"]
    done = subprocess.run(words, capture_output=True, text=True)
    state = run_folder.provenance(0, 1, "cpu")["git"]
    if done.returncode:
        assert state is None
    else:
        assert state["commit"] == done.stdout.strip()
        assert isinstance(state["changed"], bool)


def test_a_machine_without_git_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_folder.provenance(0, 1, "cpu")["git"] is None


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_one_json_line_each_and_never_nan(tmp_path: Path) -> None:
    run_folder.append_metrics(tmp_path, {"step": 1, "loss": 0.1 + 0.2})
    run_folder.append_metrics(tmp_path, {"step": 2, "loss": float("nan")})
    assert rows(tmp_path) == [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": None}]


@pytest.mark.parametrize(("step", "kept"), [(0, []), (2, [1, 2, 2]), (9, [1, 2, 2, 3])])
def test_a_resumed_run_forgets_what_came_after_its_step(
    tmp_path: Path, step: int, kept: list[int]
) -> None:
    for number in (1, 2, 2, 3):
        run_folder.append_metrics(tmp_path, {"step": number})
    run_folder.truncate_metrics(tmp_path, step)
    assert [row["step"] for row in rows(tmp_path)] == kept


# The last of a killed process, one that another wrote behind it, and what a power cut leaves.
CUT = ['{"step": 1, "lo', '{"step": 1, "lo{"step": 1}\n', "\0\0\0\n", "[1]\n", '{"a": 1}\n']


@pytest.mark.parametrize("line", CUT)
def test_a_line_cut_short_by_a_crash_is_forgotten(tmp_path: Path, line: str) -> None:
    run_folder.append_metrics(tmp_path, {"step": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(line)
    run_folder.truncate_metrics(tmp_path, 1)
    assert rows(tmp_path) == [{"step": 1}]
    run_folder.append_metrics(tmp_path, {"step": 2})
    assert rows(tmp_path) == [{"step": 1}, {"step": 2}]


def test_a_line_for_people_cut_short_is_written_anew(tmp_path: Path) -> None:
    run_folder.append_line(tmp_path, "Epoch1 für")
    (tmp_path / "log_train.log").write_bytes("Epoch1 für\nEpoch2 fü".encode()[:-1])
    run_folder.truncate_log(tmp_path, 2)
    assert (tmp_path / "log_train.log").read_text() == "Epoch1 für\n"


CFG = CfgNode({"SEED": 4})
# What rewrites or adds to which file.
WRITES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "config": ("config.yaml", lambda folder: run_folder.write_start(folder, CFG, {"seed": 4})),
    "rows": ("metrics.jsonl", lambda folder: run_folder.truncate_metrics(folder, 1)),
    "lines": ("log_train.log", lambda folder: run_folder.truncate_log(folder, 1)),
    "row": ("metrics.jsonl", lambda folder: run_folder.append_metrics(folder, {"step": 3})),
    "line": ("log_train.log", lambda folder: run_folder.append_line(folder, "Epoch3")),
}


def begin(folder: Path) -> None:
    folder.mkdir()
    run_folder.write_start(folder, CfgNode({"SEED": 3}), {"seed": 3})
    for step in (1, 2):
        run_folder.append_metrics(folder, {"step": step})
        run_folder.append_line(folder, f"Epoch{step}")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["config", "rows", "lines"])
def test_a_kill_while_a_file_is_rewritten_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    begin(tmp_path / "run")
    before = contents(tmp_path / "run")
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        WRITES[kind][1](tmp_path / "run")
    assert contents(tmp_path / "run") == before


def told_of_a_full_disk(folder: Path, told_to: Any) -> None:
    """Try every write where nothing can be written; tell what was said."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    told = {}
    for kind, (_, write) in WRITES.items():
        try:
            write(folder)
        except UserError as error:
            told[kind] = error.message
    told_to.send(told)


def test_a_full_disk_is_told_and_what_was_written_stays(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    begin(folder)
    before = contents(folder)
    reading, writing = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=told_of_a_full_disk, args=(folder, writing)
    )
    process.start()
    writing.close()
    told = reading.recv()
    process.join()
    assert told == {
        kind: f"cannot write {folder / name}: File too large" for kind, (name, _) in WRITES.items()
    }
    assert contents(folder) == before


@pytest.mark.parametrize("kind", ["config", "row", "line"])
def test_a_folder_that_is_gone_is_told(tmp_path: Path, kind: str) -> None:
    name, write = WRITES[kind]
    with pytest.raises(UserError, match=rf"gone/{name}: No such file") as caught:
        write(tmp_path / "gone")
    assert "--resume auto" in caught.value.hint


def test_a_run_without_metrics_has_nothing_to_forget(tmp_path: Path) -> None:
    run_folder.truncate_metrics(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("count", "kept"), [(0, ""), (1, "Epoch1 a\n"), (9, "Epoch1 a\nEpoch2 b\n")]
)
def test_lines_that_a_resumed_run_writes_anew_are_dropped(
    tmp_path: Path, count: int, kept: str
) -> None:
    run_folder.truncate_log(tmp_path, count)
    assert list(tmp_path.iterdir()) == []
    for line in ("Epoch1 a", "Epoch2 b"):
        run_folder.append_line(tmp_path, line)
    run_folder.truncate_log(tmp_path, count)
    assert (tmp_path / "log_train.log").read_text() == kept
