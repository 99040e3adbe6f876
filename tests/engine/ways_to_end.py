"""A command line whose processes end in various ways, started by `launch` or without an agent.

``python -m tests.engine.ways_to_end act WAY FOLDER``
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ffreid.cli import app, main
from ffreid.engine import signals
from ffreid.engine.distributed import failures
from ffreid.errors import UserError

failures.REPORT_WAIT = 1.0


@app.command()
def act(way: str, folder: Path) -> None:
    """End in this way."""
    rank = int(os.environ["RANK"])
    if way in WITHOUT_GROUP:
        WITHOUT_GROUP[way](rank, folder)
        return
    from ffreid.engine.distributed import group

    with group.process_group() as world:
        if world.is_main:
            sys.stderr.write("joined\n")
            sys.stderr.flush()
        group.barrier()
        IN_GROUP[way](rank, folder)
        group.barrier()


def finish(rank: int, folder: Path) -> None:
    """End normally; only the process with the store's server waits for the others."""
    assert failures._watchdog is not None
    assert (failures._watchdog._server is not None) == (rank == 0)
    (folder / f"finished-{rank}").touch()


def common_error(rank: int, folder: Path) -> None:
    raise UserError("no data folder", "write --root FOLDER")


def error_of_one(rank: int, folder: Path) -> None:
    if rank == 1:
        common_error(rank, folder)


def bug(rank: int, folder: Path) -> None:
    if rank == 1:
        raise ZeroDivisionError("in rank 1")


def killed(rank: int, folder: Path) -> None:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def killed_while_other_hangs(rank: int, folder: Path) -> None:
    """As in a collective on CUDA: no exception and no signal reaches rank 0."""
    failures.GRACE = 0.5
    if rank == 0:
        time.sleep(60)
    killed(rank, folder)


def stop(rank: int, folder: Path) -> None:
    with signals.catch_signals() as caught:
        (folder / f"ready-{rank}").touch()
        while caught.received is None:
            time.sleep(0.05)
    raise signals.Stopped(caught.received, "asked to stop", "--resume auto")


def hesitate(rank: int, folder: Path) -> None:
    """End at the second signal."""
    received = []

    def handle(number: int, _: object) -> None:
        received.append(number)
        (folder / f"received-{len(received)}-{rank}").touch()

    signal.signal(signal.SIGINT, handle)
    (folder / f"ready-{rank}").touch()
    while len(received) < 2:
        time.sleep(0.05)


def wait(rank: int, folder: Path) -> None:
    (folder / f"ready-{rank}").touch()
    time.sleep(60)


def start_differently(rank: int, folder: Path) -> None:
    from ffreid.engine.distributed import group

    with group.process_group({"SEED": rank}):
        raise AssertionError("the processes did not compare their settings")


def find_differently(rank: int, folder: Path) -> None:
    from ffreid.engine.distributed import group

    group.refuse_differences(lambda: {"the number of steps": 5 + rank})


Way = Callable[[int, Path], None]
WITHOUT_GROUP: dict[str, Way] = {
    "common-early": common_error,
    "one-early": error_of_one,
    "killed-early": killed,
    "stop-early": stop,
    "hesitate": hesitate,
    "start-differently": start_differently,
}
IN_GROUP: dict[str, Way] = {
    "finish": finish,
    "find-differently": find_differently,
    "common": common_error,
    "one": error_of_one,
    "bug": bug,
    "killed": killed,
    "killed-while-other-hangs": killed_while_other_hangs,
    "stop": stop,
    "wait": wait,
}


def run_command(way: str, folder: Path) -> None:
    main(["act", way, str(folder)])


if __name__ == "__main__":
    main()
