"""`--gpus N`: N processes on this machine, started and supervised by torchrun's agent."""

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
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ffreid.engine.distributed.failures import LAUNCHED, RESUME
from ffreid.engine.distributed.group import cores
from ffreid.engine.signals import STOP_SIGNALS
from ffreid.errors import UserError
from ffreid.report import log

SHUTDOWN_TIMEOUT = 300
"""Seconds for the processes to finish their step and save after a signal; torch versions without
this setting give them 30."""


def launch(
    count: int, arguments: Sequence[str], *, program: Sequence[str] = ("-m", "ffreid")
) -> int:
    """Run ``python -m ffreid ARGUMENTS`` in `count` processes of one group.

    One process per device where there is CUDA. Ctrl-C, SIGTERM and SIGUSR1 are forwarded. Call it
    in the main thread.

    Returns 0, or the exit code of the process that failed first; 128 + N after a signal N.
    """
    if count < 1:
        raise UserError(f"--gpus {count}: must be at least 1", "use e.g. --gpus 2")
    if not torch.cuda.is_available():
        log(f"note: no CUDA device: --gpus {count} starts {count} processes on the CPU")
    elif count > (available := torch.cuda.device_count()):
        raise UserError(
            f"--gpus {count}: only {available} CUDA devices are visible",
            f"use --gpus {available} or less; CUDA_VISIBLE_DEVICES and --gpu select devices",
        )
    with tempfile.TemporaryDirectory(prefix="ffreid-") as logs, _agent_environment(count):
        agent = elastic_launch(_config(count, logs), sys.executable)
        try:
            with _forward_signals():
                agent(*program, *arguments)
        except ChildFailedError as error:
            rank, first = error.get_first_failure()
            if not any(Path(one.error_file).is_file() for one in error.failures.values()):
                how = f"exited with code {first.exitcode}"
                if first.exitcode < 0:
                    how = f"was killed by {first.signal_name()}"
                if first.signal_name() == "SIGKILL":
                    how += ", probably out of memory"
                log(f"error: process {rank} of {count} {how}", f"hint: {RESUME}")
            return first.exitcode if first.exitcode >= 0 else 128 - first.exitcode
        except SignalException as error:
            if not any(Path(logs).rglob("error.json")):
                log(f"error: stopped by {error.sigval.name}", f"hint: {RESUME}")
            return 128 + error.sigval
    return 0


def _config(count: int, logs: str) -> LaunchConfig:
    optional = {"shutdown_timeout": SHUTDOWN_TIMEOUT, "signals_to_handle": "SIGHUP,SIGQUIT"}
    known = inspect.signature(LaunchConfig).parameters  # not all versions of torch have these
    settings: dict[str, Any] = {key: optional[key] for key in optional if key in known}
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs),
        **settings,
    )


@contextmanager
def _agent_environment(count: int) -> Iterator[None]:
    """Set what the processes inherit, and disable the agent's log, which repeats each failure."""
    environment, disabled = dict(os.environ), logging.root.manager.disable
    os.environ[LAUNCHED] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // count)))
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        os.environ.clear()
        os.environ.update(environment)


@contextmanager
def _forward_signals() -> Iterator[None]:
    """Forward the first signal through the agent, which then waits, and further ones directly."""
    received = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            raise SignalException(f"signal {number}", signal.Signals(number))
        with suppress(OSError):  # only Linux lists the children of a process
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
            for pid in map(int, children.split()):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    handlers = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
