"""A run's state can be read by other programs, which see whether the run still lives."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from ffreid.engine.tracking import run_state
from ffreid.errors import UserError

DEAD = 2**22 + 1


@pytest.fixture
def running(tmp_path: Path) -> Path:
    run_state.write(tmp_path, {"state": "running", "step": 3, "best": float("nan")})
    return tmp_path


def state_with(folder: Path, **facts: Any) -> str:
    """Return the state that is read after changing some facts."""
    path = folder / run_state.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    status = run_state.read(folder)
    assert status is not None
    return str(status["state"])


def test_a_state_can_be_read_back(running: Path) -> None:
    status = run_state.read(running)
    assert status is not None
    assert (status["state"], status["step"], status["best"]) == ("running", 3, None)
    assert (status["pid"], status["host"]) == (os.getpid(), socket.gethostname())
    assert [path.name for path in running.iterdir()] == [run_state.NAME]


@pytest.mark.parametrize("facts", [{"pid": DEAD}, {"pid": None}, {"process": -1}])
def test_a_run_without_its_process_has_died(running: Path, facts: dict[str, Any]) -> None:
    """Also if another process has its number by now."""
    assert state_with(running, **facts) == "died"


@pytest.mark.parametrize(("ago", "state"), [(60, "running"), (2 * run_state.TIMEOUT, "died")])
def test_a_run_on_another_host_has_died_without_updates(
    running: Path, ago: float, state: str
) -> None:
    updated = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() - ago))
    assert state_with(running, host="elsewhere", pid=1, updated=updated) == state


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_a_run_that_ended_did_not_die(running: Path, state: str) -> None:
    assert state_with(running, state=state, pid=DEAD) == state


@pytest.mark.parametrize("content", [None, "", "[1]", '{"sta'])
def test_an_unreadable_state_is_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / run_state.NAME).write_text(content)
    assert run_state.read(tmp_path) is None


def test_a_folder_that_was_removed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*gone/state\.json"):
        run_state.write(tmp_path / "gone", {})
