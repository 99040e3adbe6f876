"""The run folder says how a run was started and how it went."""

import json
import subprocess
from pathlib import Path

import pytest
from yacs.config import CfgNode

from ffreid.engine import runlog
from ffreid.errors import UserError


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = runlog.open_folder(tmp_path / "runs" / "toy")
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/runs") as caught:
        runlog.open_folder(tmp_path / "file" / "runs")
    assert "--output" in caught.value.hint


def test_the_start_can_be_read_back(tmp_path: Path) -> None:
    cfg = CfgNode({"SEED": 3, "TRAIN": {"LR_MAX": 1e-3, "LIST": ["a"]}})
    runlog.write_start(tmp_path, cfg, runlog.provenance(3, 2, "cpu"))
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
    state = runlog.provenance(0, 1, "cpu")["git"]
    if done.returncode:
        assert state is None
    else:
        assert state["commit"] == done.stdout.strip()
        assert isinstance(state["changed"], bool)


def test_a_machine_without_git_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert runlog.provenance(0, 1, "cpu")["git"] is None


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_one_json_line_each_and_never_nan(tmp_path: Path) -> None:
    runlog.append_metrics(tmp_path, {"step": 1, "loss": 0.1 + 0.2})
    runlog.append_metrics(tmp_path, {"step": 2, "loss": float("nan")})
    assert rows(tmp_path) == [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": None}]


@pytest.mark.parametrize(("step", "kept"), [(0, []), (2, [1, 2, 2]), (9, [1, 2, 2, 3])])
def test_a_resumed_run_forgets_what_came_after_its_step(
    tmp_path: Path, step: int, kept: list[int]
) -> None:
    for number in (1, 2, 2, 3):
        runlog.append_metrics(tmp_path, {"step": number})
    runlog.drop_metrics_from(tmp_path, step)
    assert [row["step"] for row in rows(tmp_path)] == kept


def test_a_line_cut_short_by_a_crash_is_forgotten(tmp_path: Path) -> None:
    runlog.append_metrics(tmp_path, {"step": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "lo')
    runlog.drop_metrics_from(tmp_path, 1)
    assert rows(tmp_path) == [{"step": 1}]


def test_a_run_without_metrics_has_nothing_to_forget(tmp_path: Path) -> None:
    runlog.drop_metrics_from(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("count", "kept"), [(0, ""), (1, "Epoch1 a\n"), (9, "Epoch1 a\nEpoch2 b\n")]
)
def test_lines_that_a_resumed_run_writes_anew_are_dropped(
    tmp_path: Path, count: int, kept: str
) -> None:
    runlog.keep_lines(tmp_path, count)
    assert list(tmp_path.iterdir()) == []
    for line in ("Epoch1 a", "Epoch2 b"):
        runlog.append_line(tmp_path, line)
    runlog.keep_lines(tmp_path, count)
    assert (tmp_path / "log_train.log").read_text() == kept
