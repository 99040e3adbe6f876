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


def test_a_state_can_be_read_back(running: Path) -> None:
    status = run_state.read(running)
    assert status is not None
    assert (status["state"], status["step"], status["best"]) == ("running", 3, None)
    assert (status["pid"], status["host"]) == (os.getpid(), socket.gethostname())
    assert [path.name for path in running.iterdir()] == [run_state.NAME]


def updated(seconds_ago: float) -> dict[str, Any]:
    text = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() - seconds_ago))
    return {"host": "elsewhere", "pid": 1, "updated": text}


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"pid": DEAD}, "died"),
        ({"pid": None}, "died"),
        ({"process": -1}, "died"),  # another process has its number by now
        (updated(60), "running"),
        (updated(2 * run_state.TIMEOUT), "died"),
        *(({"state": state, "pid": DEAD}, state) for state in ("finished", "stopped", "failed")),
    ],
)
def test_a_running_run_without_process_or_updates_has_died(
    running: Path, facts: dict[str, Any], state: str
) -> None:
    path = running / run_state.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    status = run_state.read(running)
    assert status is not None and status["state"] == state


@pytest.mark.parametrize("content", [None, "", "[1]", '{"sta'])
def test_an_unreadable_state_is_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / run_state.NAME).write_text(content)
    assert run_state.read(tmp_path) is None


def test_a_folder_that_was_removed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*gone/state\.json"):
        run_state.write(tmp_path / "gone", {})
