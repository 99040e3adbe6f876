"""Real runs of two processes are killed, interrupted and started again, and lose no step.

Launchers and the run left in peace are forked from a server that has torch loaded: a start of two
processes costs 15 s of CPU otherwise.
"""

import multiprocessing
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ffreid.engine.tracking import run_state
from tests.faults import FAULT
from tests.kills import check_same
from tests.reid.command_line import line, make_toy_data

MORE = "TRAIN.MAX_EPOCH 5 TRAIN.SAVE_EVERY 2 TRAIN.EMA 0.9 TEST.EVAL_STEP 5"
"""Ten steps."""
ALL_END = 15.0
"""Seconds in which all must have ended after one was killed."""
LIMIT = 240.0
"""Seconds after which a command hangs."""
OWN = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
NEWS = ("note: ", "training ", "data: ", "Epoch", "going on from ", "no checkpoint in ")


@dataclass(frozen=True)
class Ended:
    """What a command came to: its exit code, and what it said besides the news of training."""

    code: int | None
    said: list[str]


def forked(command: str, environment: dict[str, str], log: Path) -> None:
    """Be that command, in a session of its own as from a terminal."""
    from tests import faults

    os.setsid()
    os.environ |= OWN | environment
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        sys.argv = ["ffreid", *shlex.split(command)]
        faults.main()


def ended(log: Path, command: str, *environments: dict[str, str]) -> list[Ended]:
    """Fork a process with each of the environments, and wait for all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["ffreid.runner", "ffreid.engine.distributed.launch", "torch._dynamo"]
    )
    logs = [log.with_suffix(f".{number}") for number in range(len(environments))]
    processes = [
        context.Process(target=forked, args=(command, environment, log))
        for environment, log in zip(environments, logs, strict=True)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT)
        process.kill()
    return [
        Ended(process.exitcode, besides_news(log.read_text()))
        for process, log in zip(processes, logs, strict=True)
    ]


def besides_news(text: str) -> list[str]:
    return [told for told in text.splitlines() if told and not told.startswith(NEWS)]


def command(place: Path, tag: str, more: str = "") -> str:
    return line("train", place, tag, more=f"{MORE} {more}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the toy data and, under ``whole``, a run of two processes left in peace."""
    folder = tmp_path_factory.mktemp("restarts")
    make_toy_data(folder / "data")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    ranks = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    found = ended(folder / "whole", command(folder, "whole"), *ranks)
    assert [one.code for one in found] == [0, 0], found
    yield folder
    shutil.rmtree(folder)


def test_a_run_comes_to_the_same_end_through_kills_and_interruptions(place: Path) -> None:
    folder, log = place / "toy-reid" / "stopped", place / "stopped"
    train = command(place, "stopped", "--resume auto")
    hint = "hint: resume with the same command and --resume auto"

    (killed,) = ended(log, f"{train} --gpus 2", {FAULT: "1 4 kill"})
    assert killed.code == 137
    assert killed.said == [
        "error: process 1 of 2 was ended by SIGKILL, as when memory runs out, without a word",
        "hint: what was saved is intact; training goes on with --resume auto",
    ]
    assert time.time() - (folder / "metrics.jsonl").stat().st_mtime < ALL_END
    left = run_state.read(folder)
    assert left is not None
    assert left["state"] in ("failed", "died")

    # The same steps: the third was done, but not saved.
    (interrupted,) = ended(log, f"{train} --gpus 2", {FAULT: "0 3 interrupt the launcher's group"})
    assert interrupted.code == 130
    assert interrupted.said == [
        "SIGINT: finishing this step and saving; once more exits at once",
        f"stopped: by SIGINT at step 3 of 10, saved in {folder / 'last.pth'}",
        hint,
    ]
    assert (run_state.read(folder) or {})["state"] == "stopped"

    (told,) = ended(log, f"{train} --gpus 2", {FAULT: "0 5 end the launcher"})
    assert told.code == 143
    assert told.said[1:] == [
        f"stopped: by SIGTERM at step 5 of 10, saved in {folder / 'last.pth'}",
        hint,
    ]
    assert (run_state.read(folder) or {})["state"] == "stopped"

    restarts(train, "1 8 kill")
    assert (run_state.read(folder) or {})["state"] == "finished"
    check_same(folder, place / "toy-reid" / "whole")


def restarts(train: str, told: str) -> None:
    """Torchrun starts both processes again, which go on by themselves."""
    torchrun = "torch.distributed.run --nproc-per-node 2 --max-restarts 1 --monitor-interval 0.1"
    done = subprocess.run(
        [sys.executable, "-m", *torchrun.split(), "-m", "tests.faults", *shlex.split(train)],
        env=os.environ | OWN | {FAULT: told},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert [one for one in said if one.startswith("error: ")] == [
        "error: process 0 of 2: process 1 of 2 ended without a word"
    ]
    going_on = [one for one in said if one.startswith("going on from ")]
    assert [one.rpartition(", ")[2] for one in going_on] == ["step 5", "step 6"]
