"""The command line with a tiny re-ID network and, at one step, a fault in one process.

``FFREID_FAULT="1 7 kill" python -m tests.faults train …``: process 1 is killed before its step 7.
"""

import os
import signal
import sys
import time
from functools import partial
from typing import Any, cast

FAULT = "FFREID_FAULT"
"""Environment variable: rank, step and fault; ignored after a restart."""
FAULTS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    # As a terminal does; torch starts each process in a new session.
    "Ctrl-C": lambda: os.killpg(os.getpgid(os.getppid()), signal.SIGINT),
}


def main() -> None:
    """Run the command line; the processes that it starts run this module too."""
    if "RANK" not in os.environ and "--gpus" in sys.argv:
        from ffreid.engine.distributed import launch

        start = partial(launch.launch, program=("-m", "tests.faults"))
        launch.launch = cast(Any, start)
    else:
        _train_tiny_network()
    from ffreid.cli import main as ffreid

    ffreid()


def _train_tiny_network() -> None:
    from ffreid.engine.trainer import Trainer
    from ffreid.reid import model
    from tests.reid.command_line import Tiny

    model.NETWORKS["resnet50"] = cast(Any, Tiny)
    fields = os.environ.get(FAULT, "").split(maxsplit=2)
    if not fields or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        return
    rank, at, fault = fields
    original = Trainer._step

    def step(trainer: Trainer, number: int, *rest: Any) -> Any:
        if (trainer.world.rank, number) == (int(rank), int(at) - 1):
            FAULTS[fault]()
            deadline = time.monotonic() + 60
            while trainer.signals.received is None:
                assert time.monotonic() < deadline, f"{fault}: no signal was received"
                time.sleep(0.01)
        return original(trainer, number, *rest)

    Trainer._step = cast(Any, step)  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
