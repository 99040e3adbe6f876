"""Several processes on this machine from one command, by torchrun's own agent, quietly."""

import inspect
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ffreid.engine.distributed.failures import SAID
from ffreid.engine.distributed.group import cores
from ffreid.errors import UserError
from ffreid.report import log

FINISH = 300
"""Seconds that processes have after a signal to finish their step and save; an elder torch, whose
LaunchConfig has no ``shutdown_timeout``, gives them 30."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
GO_ON = "what was saved is intact; training goes on with --resume auto"
PROGRAM = ("-m", "ffreid")


def launch(
    count: int,
    words: Sequence[str],
    *,
    max_restarts: int = 0,
    program: Sequence[str] = PROGRAM,
) -> int:
    """Run ``python -m ffreid WORDS`` in `count` processes that find each other.

    Ctrl-C, SIGTERM and SIGUSR1 reach the processes as they are, and these have `FINISH` seconds to
    end. Call it in the main thread.

    Args:
        count: processes, one for each device where there is CUDA.
        words: the command line, see `without_gpus`.
        max_restarts: how often all are started again after one has failed.
        program: what python runs.

    Returns:
        0, or the exit code of the process that failed first; 128 + the signal that ended it, or
        that this process was told to end by.

    Raises:
        UserError: there are not as many devices, not one process is asked for, or torchrun has
            started this one.
    """
    _check(count)
    with tempfile.TemporaryDirectory(prefix="ffreid-") as name, _environment(count, name):
        folder = Path(name)
        agent = elastic_launch(_config(count, max_restarts, folder / "logs"), sys.executable)
        try:
            with _quiet(), _forwarding():
                agent(*program, *words)
        except ChildFailedError as error:
            return _told_failure(error, count, folder)
        except SignalException as error:
            number = signal.Signals(error.sigval)
            if not any(path.is_file() for path in folder.iterdir()):
                log(f"error: ended by {number.name}\nhint: {GO_ON}")
            return 128 + number
    return 0


def without_gpus(words: Sequence[str]) -> list[str]:
    """Give the command line without ``--gpus N`` or ``--gpus=N``."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == "--gpus":
            skip = True
        elif not word.startswith("--gpus="):
            kept.append(word)
    return kept


def _check(count: int) -> None:
    if count < 1:
        raise UserError(f"--gpus {count} is no number of devices", "write e.g. --gpus 2")
    if "RANK" in os.environ:
        raise UserError(f"--gpus {count} inside of torchrun", "leave --gpus out: it starts all")
    if not torch.cuda.is_available():
        log(f"note: no CUDA device here: --gpus {count} starts {count} processes on the CPU")
    elif count > torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UserError(
            f"--gpus {count} asks for {count} devices, {found} can be seen",
            f"write --gpus {found}, or fewer; CUDA_VISIBLE_DEVICES and --gpu choose what is seen",
        )


def _config(count: int, max_restarts: int, logs: Path) -> LaunchConfig:
    newer = {"shutdown_timeout": FINISH, "signals_to_handle": "SIGHUP,SIGQUIT"}
    known = inspect.signature(LaunchConfig).parameters
    settings: dict[str, Any] = {key: newer[key] for key in newer if key in known}
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=max_restarts,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs)),
        **settings,
    )


def _told_failure(error: ChildFailedError, count: int, folder: Path) -> int:
    """The exit code; said here is only what no process could say itself."""
    rank, first = error.get_first_failure()
    said = any((folder / str(failure.pid)).exists() for failure in error.failures.values())
    if not said:
        log(f"error: process {rank} of {count} {_how(first)} without a word\nhint: {GO_ON}")
    return first.exitcode if first.exitcode >= 0 else 128 - first.exitcode


def _how(failure: ProcessFailure) -> str:
    if failure.exitcode >= 0:
        return f"ended with exit code {failure.exitcode}"
    number = -failure.exitcode
    why = ", as when memory runs out," if number == signal.SIGKILL else ""
    return f"was ended by {failure.signal_name()}{why}"


@contextmanager
def _environment(count: int, folder: str) -> Iterator[None]:
    """What the processes inherit."""
    added = {SAID: folder}
    if "OMP_NUM_THREADS" not in os.environ:
        added["OMP_NUM_THREADS"] = str(max(1, cores() // count))
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the agent's log: it tells of each signal and each failure a second time."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _forwarding() -> Iterator[None]:
    """Pass the first signal on through the agent, which then waits, and further ones directly."""
    received = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            raise SignalException(f"signal {number}", signal.Signals(number))
        for process in _children():
            with suppress(ProcessLookupError):
                os.kill(process, number)

    before = {number: signal.signal(number, handle) for number in FORWARDED}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _children() -> list[int]:
    try:
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in listed.split()]
