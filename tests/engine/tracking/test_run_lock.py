"""Two runs never write to one folder; a killed run does not keep it locked."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ffreid import atomic
from ffreid.engine.tracking import run_lock, run_state
from ffreid.errors import UserError

if not hasattr(os, "fork"):
    pytest.skip("forks", allow_module_level=True)


@contextmanager
def locked_by_another_process(folder: Path) -> Iterator[int]:
    """Lock `folder` in a process, which is killed at the end; its own child outlives it."""
    ready, begin = os.pipe()
    if (pid := os.fork()) == 0:
        with run_lock.lock(folder):
            run_state.write(folder, {"state": "running"})
            if os.fork():
                os.write(begin, b".")
            time.sleep(5)
            os._exit(0)
    os.read(ready, 1)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_second_run_is_refused_until_the_first_has_died(tmp_path: Path) -> None:
    mine, killed = tmp_path / "notes.part", atomic.partial_file(tmp_path / "last.pth")
    mine.touch()
    with locked_by_another_process(tmp_path) as pid:
        killed.touch()
        with (
            pytest.raises(UserError, match=rf"writing to {tmp_path} \(process {pid} on"),
            run_lock.lock(tmp_path),
        ):
            pass
        assert killed.exists()
    with run_lock.lock(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            ".lock",
            "notes.part",
            "state.json",
        ]


def test_a_lock_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(UserError, match="it is a pipe"), run_lock.lock(tmp_path):
        pass


def test_a_file_system_without_locks_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", fail)
    with run_lock.lock(tmp_path):
        assert "cannot be locked (No locks available)" in capsys.readouterr().err
