"""Training in two processes that is interrupted, killed and restarted loses no step.

Launchers and the uninterrupted run are forked from a server that has imported torch, so that they
start quickly.
"""

import multiprocessing
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from ffreid.engine.tracking import run_state
from tests.faults import FAULT
from tests.kills import begin_session, check_same
from tests.reid.command_line import line, make_toy_data

TEN_STEPS = "TRAIN.MAX_EPOCH 5 TRAIN.SAVE_EVERY 2 TRAIN.EMA 0.9 TEST.EVAL_STEP 5"
LIMIT = 240.0
"""Seconds after which a command hangs."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def forked(command: str, environment: dict[str, str], log: Path) -> None:
    from tests import faults

    begin_session(log)
    os.environ |= ENVIRONMENT | environment
    sys.argv = ["ffreid", *shlex.split(command)]
    faults.main()


def run(log: Path, command: str, *environments: dict[str, str]) -> list[int | None]:
    """Run the command once per environment, in parallel; return the exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["ffreid.runner", "ffreid.engine.distributed.launch", "torch._dynamo"]
    )
    processes = [
        context.Process(target=forked, args=(command, environment, log))
        for environment in environments
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT)
        process.kill()
    return [process.exitcode for process in processes]


def test_a_run_reaches_the_same_end_after_ctrl_c_and_a_killed_process(tmp_path: Path) -> None:
    make_toy_data(tmp_path / "data")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # Without an agent.
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    ranks = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    log, runs = tmp_path / "log", tmp_path / "toy-reid"
    assert run(log, line("train", tmp_path, "full", more=TEN_STEPS), *ranks) == [0, 0]

    folder, train = runs / "stopped", line("train", tmp_path, "stopped", more=TEN_STEPS)
    assert run(log, f"{train} --gpus 2", {FAULT: "0 3 Ctrl-C"}) == [130]
    *_, interrupted, stopped, hint = log.read_text().splitlines()
    assert interrupted.startswith("SIGINT: ")
    assert stopped == f"stopped: by SIGINT at step 3 of 10, saved in {folder / 'last.pth'}"
    assert hint.startswith("hint: ")
    assert "--resume auto" in hint
    assert (run_state.read(folder) or {})["state"] == "stopped"

    errors, resumed = restarted_by_torchrun(f"{train} --resume auto", "1 8 kill")
    assert errors == ["error: process 0 of 2: process 1 of 2 died"]
    assert [one.rpartition(", ")[2] for one in resumed] == ["step 3", "step 6"]
    assert (run_state.read(folder) or {})["state"] == "finished"
    check_same(folder, runs / "full")


def restarted_by_torchrun(command: str, fault: str) -> tuple[list[str], list[str]]:
    """Run it with at most one restart; return its errors and the steps that it resumed from."""
    torchrun = "torch.distributed.run --nproc-per-node 2 --max-restarts 1 --monitor-interval 0.1"
    done = subprocess.run(
        [sys.executable, "-m", *torchrun.split(), "-m", "tests.faults", *shlex.split(command)],
        env=os.environ | ENVIRONMENT | {FAULT: fault},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    errors = [one for one in lines if one.startswith("error: ")]
    return errors, [one for one in lines if one.startswith("resuming from ")]
