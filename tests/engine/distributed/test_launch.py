"""`launch` starts processes, passes signals on, and adds no word of its own where one was said.

Most end before torch is imported, so that a start costs little.
"""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from ffreid.engine.distributed.launch import launch, without_gpus
from ffreid.errors import UserError

PROGRAM = ("-m", "tests.engine.ways_to_end", "act")


@pytest.fixture(autouse=True)
def _no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What was said, but for the note that these are CPU processes."""
    note, *said = capfd.readouterr().err.splitlines()
    assert note == "note: no CUDA device here: --gpus 2 starts 2 processes on the CPU"
    return said


def wait_for(*paths: Path) -> None:
    until = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_mistake_of_all_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert launch(2, ["bench", "xyzzy"]) == 2
    error, hint = lines(capfd)
    assert error == "error: unknown task 'xyzzy'"
    assert hint.startswith("hint: ")


def test_a_killed_process_is_told_of_by_the_launcher(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert launch(2, ["killed-early", str(tmp_path)], program=PROGRAM) == 128 + signal.SIGKILL
    error, hint = lines(capfd)
    assert error.startswith("error: process 1 of 2 was ended by SIGKILL")
    assert "--resume auto" in hint


def test_a_killed_process_is_replaced_by_a_restart(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["killed,finish", str(tmp_path)]
    assert launch(2, words, program=PROGRAM, max_restarts=1) == 0
    errors = [line for line in lines(capfd) if line.startswith("error: ")]
    assert errors == ["error: process 0 of 2: process 1 of 2 ended without a word"]
    # The second start met under its own name: the first one's addresses are in the store still.
    assert [(tmp_path / f"finished-{rank}").read_text() for rank in (0, 1)] == ["True", "True"]


def test_a_signal_reaches_the_processes_as_it_is(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def send() -> None:
        wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.getsignal(signal.SIGUSR1)
    sender = threading.Thread(target=send)
    sender.start()
    assert launch(2, ["stop-early", str(tmp_path)], program=PROGRAM) == 128 + signal.SIGUSR1
    sender.join()
    assert signal.getsignal(signal.SIGUSR1) is before
    said = [line for line in lines(capfd) if not line.startswith("SIGUSR1: finishing")]
    assert said == ["stopped: asked to stop", "hint: --resume auto"]


def test_a_second_ctrl_c_reaches_them_too(tmp_path: Path) -> None:
    def send() -> None:
        wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(tmp_path / "heard-1-0", tmp_path / "heard-1-1")
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    assert launch(2, ["hesitate", str(tmp_path)], program=PROGRAM) == 128 + signal.SIGINT
    sender.join()
    assert (tmp_path / "heard-2-0").exists()
    assert (tmp_path / "heard-2-1").exists()


def test_the_environment_is_as_before(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = dict(os.environ)
    assert launch(2, ["--version"]) == 0
    added = {name for name in os.environ if name not in before}
    assert not {name for name in added if not name.startswith("TORCHELASTIC")}
    assert lines(capfd) == []


@pytest.mark.parametrize(("count", "error"), [(0, "no number of devices"), (3, "2 can be seen")])
def test_more_processes_than_devices_are_refused(
    monkeypatch: pytest.MonkeyPatch, count: int, error: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=error):
        launch(count, [])


def test_a_process_of_torchruns_starts_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="inside of torchrun"):
        launch(2, [])


@pytest.mark.parametrize("flag", [["--gpus", "2"], ["--gpus=2"], []])
def test_the_processes_are_not_launchers_themselves(flag: list[str]) -> None:
    words = ["train", "--dataset", "toy-pose", "--gpu", "0,1"]
    assert without_gpus([*words[:3], *flag, *words[3:]]) == words
