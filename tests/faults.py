"""The command line with a tiny re-identification network, which does at a step what it is told.

``FFREID_FAULT="1 7 kill" python -m tests.faults train …``: process 1 is killed before its step 7.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

FAULT = "FFREID_FAULT"
"""Environment: process, step and what it does; after a restart it does nothing."""
LIMIT = 60.0
"""Seconds in which a signal must have come back."""
WAYS: dict[str, Callable[[], None]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    # As a terminal does: torch's processes have sessions of their own.
    "interrupt the launcher's group": lambda: os.killpg(os.getpgid(os.getppid()), signal.SIGINT),
    "end the launcher": lambda: os.kill(os.getppid(), signal.SIGTERM),
}


def main() -> None:
    """Run the command line; its further processes are such as this one."""
    if "RANK" not in os.environ and "--gpus" in sys.argv:
        _launch_this()
    else:
        _train_tiny()
    from ffreid.cli import main as ffreid

    ffreid()


def _launch_this() -> None:
    from ffreid.engine.distributed import launch

    start = partial(launch.launch, program=("-m", "tests.faults"))
    launch.launch = cast(Any, start)


def _train_tiny() -> None:
    from ffreid.engine.trainer import Trainer
    from ffreid.reid import model
    from tests.reid.command_line import Tiny

    model.NETWORKS["resnet50"] = cast(Any, Tiny)
    words = os.environ.get(FAULT, "").split(maxsplit=2)
    if not words or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        return
    rank, at, way = words
    whole = Trainer._step

    def step(trainer: Trainer, number: int, *rest: Any) -> Any:
        if (trainer.world.rank, number) == (int(rank), int(at) - 1):
            WAYS[way]()
            until = time.monotonic() + LIMIT
            while trainer.signals.received is None:
                assert time.monotonic() < until, f"{way}: no signal came"
                time.sleep(0.01)
        return whole(trainer, number, *rest)

    Trainer._step = cast(Any, step)  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
