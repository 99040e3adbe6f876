"""`--gpus N` starts processes, forwards signals, and reports only what no process could report.

Most processes end before they import torch, so that they start quickly.
"""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from ffreid.engine.distributed.launch import launch
from ffreid.errors import UserError

PROGRAM = ("-m", "tests.engine.ways_to_end", "act")


@pytest.fixture(autouse=True)
def _no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def messages(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Lines on stderr after the note about CPU processes."""
    note, *lines = capfd.readouterr().err.splitlines()
    assert note == "note: no CUDA device: --gpus 2 starts 2 processes on the CPU"
    return lines


def send_when(number: int, *paths: Path) -> threading.Thread:
    """Send this process a signal each time that both processes have created one of `paths`."""

    def send() -> None:
        deadline = time.monotonic() + 60
        for path in paths:
            while not all(path.with_name(f"{path.name}-{rank}").exists() for rank in (0, 1)):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_an_error_of_all_processes_is_reported_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert launch(2, ["bench", "xyzzy"]) == 2
    error, hint = messages(capfd)
    assert error.startswith("error: ") and "xyzzy" in error and hint.startswith("hint: ")


def test_a_killed_process_is_reported_by_the_launcher(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert launch(2, ["killed-early", str(tmp_path)], program=PROGRAM) == 128 + signal.SIGKILL
    assert messages(capfd) == [
        "error: process 1 of 2 was killed by SIGKILL, probably out of memory",
        "hint: resume from the last checkpoint with --resume auto",
    ]


def test_a_signal_is_forwarded(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    sender = send_when(signal.SIGUSR1, tmp_path / "ready")
    assert launch(2, ["stop-early", str(tmp_path)], program=PROGRAM) == 128 + signal.SIGUSR1
    sender.join()
    assert signal.getsignal(signal.SIGUSR1) is before
    lines = [line for line in messages(capfd) if not line.startswith("SIGUSR1: ")]
    assert lines == ["stopped: asked to stop", "hint: --resume auto"]


def test_a_second_ctrl_c_is_forwarded(tmp_path: Path) -> None:
    sender = send_when(signal.SIGINT, tmp_path / "ready", tmp_path / "received-1")
    assert launch(2, ["hesitate", str(tmp_path)], program=PROGRAM) == 128 + signal.SIGINT
    sender.join()
    assert all((tmp_path / f"received-2-{rank}").exists() for rank in (0, 1))


def test_the_environment_is_restored(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = dict(os.environ)
    assert launch(2, ["--version"]) == 0
    assert dict(os.environ) == before
    assert messages(capfd) == []


@pytest.mark.parametrize(
    ("count", "error"), [(0, "must be at least 1"), (3, "only 2 CUDA devices")]
)
def test_a_count_that_cannot_be_started_is_refused(
    count: int, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=error):
        launch(count, [])
