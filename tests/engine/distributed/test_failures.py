"""What ends one process ends all, and is said once by name.

The processes come from a server that has torch loaded, so that a start costs no seconds.
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from ffreid.engine.distributed.failures import BUG, INTERRUPTED, MISTAKE

SIZE = 2
LIMIT = 15.0
"""Seconds in which all must have ended after one has."""


@dataclass(frozen=True)
class Ended:
    """What a run of several processes came to."""

    codes: list[int | None]
    said: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("error: ")]


def process(rank: int, port: int, way: str, folder: Path) -> None:
    from tests.engine import ways_to_end  # it adds a command, which is not for this process

    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(SIZE),
        "LOCAL_WORLD_SIZE": str(SIZE),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
    }
    with (folder / "said").open("a") as file:
        os.dup2(file.fileno(), 2)
        sys.stderr = file
        ways_to_end.take(way, folder)


def ended(way: str, folder: Path, send: signal.Signals | None = None) -> Ended:
    """Take the way in `SIZE` processes without an agent, so that nobody ends the others.

    Args:
        way: of ``ways_to_end``.
        folder: empty.
        send: to every process, once it is ready.
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
    until = time.monotonic() + LIMIT
    if send is not None:
        _send(send, processes, folder, until)
    for one in processes:
        one.join(max(0.0, until - time.monotonic()))
    codes = [one.exitcode for one in processes]
    for one in processes:
        one.kill()
    return Ended(codes, (folder / "said").read_text())


def _send(
    number: signal.Signals, processes: Sequence[BaseProcess], folder: Path, until: float
) -> None:
    ready = [folder / f"ready-{rank}" for rank in range(SIZE)]
    while not all(path.exists() for path in ready) and time.monotonic() < until:
        time.sleep(0.02)
    for one in processes:
        assert one.pid is not None
        os.kill(one.pid, number)


def test_a_mistake_of_all_is_said_once(tmp_path: Path) -> None:
    found = ended("common", tmp_path)
    assert found.codes == [MISTAKE, MISTAKE]
    (error,) = found.errors
    assert error in [f"error: process {rank} of 2: no data folder" for rank in range(SIZE)]
    assert found.said.endswith("hint: write --root FOLDER\n")


def test_a_mistake_of_one_is_said_by_name_and_ends_the_other(tmp_path: Path) -> None:
    found = ended("alone", tmp_path)
    assert found.codes == [MISTAKE, MISTAKE]
    assert found.errors == ["error: process 1 of 2: no data folder"]


def test_a_bug_keeps_its_traceback_and_is_said_once(tmp_path: Path) -> None:
    found = ended("bug", tmp_path)
    assert found.codes == [BUG, BUG]
    assert found.errors == ["error: process 1 of 2 met a bug"]
    assert found.said.count("Traceback") == 1
    assert found.said.endswith("ZeroDivisionError: of rank 1\n")


@pytest.mark.parametrize("way", ["killed", "deaf"])
def test_a_killed_process_is_told_of_by_the_other_even_if_that_hangs(
    tmp_path: Path, way: str
) -> None:
    found = ended(way, tmp_path)
    assert found.codes == [BUG, -signal.SIGKILL]
    assert found.errors == ["error: process 0 of 2: process 1 of 2 ended without a word"]
    assert "Traceback" not in found.said
    assert "--resume auto" in found.said


@pytest.mark.parametrize(
    ("way", "errors"),
    [
        # Alone, without torchrun that ends all with the first, each of them comes to say it.
        ("common-early", ["error: no data folder", "error: process 1 of 2: no data folder"]),
        ("alone-early", ["error: process 1 of 2: no data folder"]),
    ],
)
def test_before_they_meet_the_first_process_speaks_first(
    tmp_path: Path, way: str, errors: list[str]
) -> None:
    assert ended(way, tmp_path).errors == errors


def test_processes_end_in_peace(tmp_path: Path) -> None:
    found = ended("finish", tmp_path)
    assert found == Ended([0, 0], "attempt 0\n")
    assert (tmp_path / "finished-0").read_text() == "False"


def test_all_stop_together_and_the_first_says_so(tmp_path: Path) -> None:
    found = ended("stop", tmp_path, signal.SIGTERM)
    assert found.codes == [128 + signal.SIGTERM] * SIZE
    told = [line for line in found.said.splitlines() if not line.startswith("SIGTERM: finishing")]
    assert told == ["attempt 0", "stopped: asked to stop", "hint: --resume auto"]


def test_ctrl_c_is_said_once(tmp_path: Path) -> None:
    found = ended("wait", tmp_path, signal.SIGINT)
    assert found.codes == [INTERRUPTED] * SIZE
    (error,) = found.errors
    assert error.endswith(" of 2: interrupted")
    assert "Traceback" not in found.said
