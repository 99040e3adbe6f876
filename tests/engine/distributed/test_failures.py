"""An error in one process ends all processes and is reported once.

The processes come from a server that has imported torch, so that they start quickly.
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from ffreid.engine.distributed.failures import BUG, INTERRUPTED, USER_ERROR

SIZE = 2
LIMIT = 15.0
"""Seconds within which all processes must have ended."""


class Result(NamedTuple):
    """Exit codes and stderr of a run of several processes."""

    codes: list[int | None]
    stderr: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith("error: ")]


def process(rank: int, port: int, way: str, folder: Path) -> None:
    from tests.engine.ways_to_end import run_command  # adds a command that other tests must not see

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(SIZE)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    with (folder / "stderr").open("a") as file:
        os.dup2(file.fileno(), 2)
        sys.stderr = file
        run_command(way, folder)


def run(way: str, folder: Path, send: signal.Signals | None = None) -> Result:
    """Run `SIZE` processes without an agent, so that nothing else ends them.

    `way` is a key of ``ways_to_end.IN_GROUP`` or ``WITHOUT_GROUP``; the signal to `send` to every
    process is sent once all are ready.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ffreid.engine.distributed.group", "tests.engine.ways_to_end"])
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        context.Process(target=process, args=(rank, port, way, folder)) for rank in range(SIZE)
    ]
    for one in processes:
        one.start()
    deadline = time.monotonic() + LIMIT
    if send is not None:
        while len(list(folder.glob("ready-*"))) < SIZE and time.monotonic() < deadline:
            time.sleep(0.02)
        for one in processes:
            os.kill(one.pid or 0, send)
    for one in processes:
        one.join(max(0.0, deadline - time.monotonic()))
    codes = [one.exitcode for one in processes]
    for one in processes:
        one.kill()
    return Result(codes, (folder / "stderr").read_text())


@pytest.mark.parametrize(("way", "ranks"), [("common", (0, 1)), ("one", (1,))])
def test_a_user_error_is_reported_once_and_ends_all(
    tmp_path: Path, way: str, ranks: tuple[int, ...]
) -> None:
    result = run(way, tmp_path)
    assert result.codes == [USER_ERROR, USER_ERROR]
    (error,) = result.errors
    assert error in [f"error: process {rank} of 2: no data folder" for rank in ranks]
    assert result.stderr.endswith("hint: write --root FOLDER\n")


@pytest.mark.parametrize(
    ("way", "name", "values"),
    [("start-differently", "SEED", (0, 1)), ("find-differently", "the number of steps", (5, 6))],
)
def test_what_differs_between_processes_is_reported_by_all(
    tmp_path: Path, way: str, name: str, values: tuple[int, int]
) -> None:
    result = run(way, tmp_path)
    assert result.codes == [USER_ERROR, USER_ERROR]
    first, second = values
    assert sorted(result.errors) == [
        f"error: process 0 of 2: {name} is {first}, but {second} in process 1",
        f"error: process 1 of 2: {name} is {second}, but {first} in process 0",
    ]
    assert result.stderr.count("hint: start every process with the same command") == 2


def test_a_bug_is_reported_once_with_its_traceback(tmp_path: Path) -> None:
    result = run("bug", tmp_path)
    assert result.codes == [BUG, BUG]
    assert result.errors == ["error: process 1 of 2: unexpected ZeroDivisionError"]
    assert result.stderr.count("Traceback") == 1
    assert result.stderr.endswith("ZeroDivisionError: in rank 1\n")


@pytest.mark.parametrize("way", ["killed", "killed-while-other-hangs"])
def test_a_killed_process_is_reported_by_the_other(tmp_path: Path, way: str) -> None:
    result = run(way, tmp_path)
    assert result.codes == [BUG, -signal.SIGKILL]
    assert result.errors == ["error: process 0 of 2: process 1 of 2 died"]
    assert "Traceback" not in result.stderr
    assert "--resume auto" in result.stderr


@pytest.mark.parametrize(
    ("way", "errors"),
    [
        # With torchrun, which ends all processes after the first, only the first line is printed.
        ("common-early", ["error: no data folder", "error: process 1 of 2: no data folder"]),
        ("one-early", ["error: process 1 of 2: no data folder"]),
    ],
)
def test_errors_before_the_group_exists_are_reported_by_the_first_process_first(
    tmp_path: Path, way: str, errors: list[str]
) -> None:
    assert run(way, tmp_path).errors == errors


def test_processes_finish_without_a_message(tmp_path: Path) -> None:
    assert run("finish", tmp_path) == Result([0, 0], "joined\n")


def test_all_stop_together_and_the_first_process_reports_it(tmp_path: Path) -> None:
    result = run("stop", tmp_path, signal.SIGTERM)
    assert result.codes == [128 + signal.SIGTERM] * SIZE
    lines = [line for line in result.stderr.splitlines() if not line.startswith("SIGTERM: ")]
    assert lines == ["joined", "stopped: asked to stop", "hint: --resume auto"]


def test_ctrl_c_is_reported_once(tmp_path: Path) -> None:
    result = run("wait", tmp_path, signal.SIGINT)
    assert result.codes == [INTERRUPTED] * SIZE
    (error,) = result.errors
    assert error.endswith(" of 2: interrupted")
    assert "Traceback" not in result.stderr
