"""A run's state can be read from outside, and a dead one is told from one that runs."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from ffreid.engine.tracking import run_state
from ffreid.errors import UserError


def changed(folder: Path, **facts: Any) -> str:
    """What is read after some of the facts became others."""
    path = folder / run_state.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    told = run_state.read(folder)
    assert told is not None
    return str(told["state"])


@pytest.fixture
def running(tmp_path: Path) -> Path:
    run_state.write(tmp_path, {"state": "running", "step": 3, "best": float("nan")})
    return tmp_path


def test_a_state_can_be_read_back(running: Path) -> None:
    told = run_state.read(running)
    assert told is not None
    assert (told["state"], told["step"], told["best"]) == ("running", 3, None)
    assert (told["pid"], told["host"]) == (os.getpid(), socket.gethostname())
    assert [path.name for path in running.iterdir()] == [run_state.NAME]


@pytest.mark.parametrize("facts", [{"pid": 2**22 + 1}, {"pid": None}, {"process": -1}])
def test_a_run_whose_process_is_gone_has_died(running: Path, facts: dict[str, Any]) -> None:
    """Also where another process has its number by now."""
    assert changed(running, **facts) == "died"


@pytest.mark.parametrize(("ago", "state"), [(60, "running"), (2 * run_state.SILENT, "died")])
def test_a_run_on_another_host_has_died_if_it_was_long_silent(
    running: Path, ago: float, state: str
) -> None:
    spoke = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() - ago))
    assert changed(running, host="elsewhere", pid=1, updated=spoke) == state


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_a_run_that_has_ended_did_not_die(running: Path, state: str) -> None:
    assert changed(running, state=state, pid=2**22 + 1) == state


@pytest.mark.parametrize("content", [None, "", "[1]", '{"sta'])
def test_without_a_readable_state_nothing_is_told(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / run_state.NAME).write_text(content)
    assert run_state.read(tmp_path) is None


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone/state\.json"):
        run_state.write(tmp_path / "gone", {})
