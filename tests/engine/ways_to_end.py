"""A command line whose processes end in every way; torchrun or `launch` starts it.

``python -m tests.engine.ways_to_end WAY[,WAY…] [FOLDER]``: one way for each restart.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ffreid.cli import app, main
from ffreid.engine import signals
from ffreid.engine.distributed import failures, watchdog
from ffreid.errors import UserError

failures.HEAR = failures.FOLLOW = 1.0


@app.command()
def act(ways: str, folder: Path) -> None:
    """Take the way of this start."""
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    way = ways.split(",")[attempt]
    rank = int(os.environ["RANK"])
    if way in ALONE:
        ALONE[way](rank, folder)
        return
    from ffreid.engine.distributed import group

    with group.process_group() as world:
        if world.is_main:
            sys.stderr.write(f"attempt {attempt}\n")
            sys.stderr.flush()
        group.barrier()
        TOGETHER[way](rank, folder)
        group.barrier()


def finish(rank: int, folder: Path) -> None:
    from ffreid.engine.distributed import group

    (folder / f"finished-{rank}").write_text(str(group.restarted()))


def common(rank: int, folder: Path) -> None:
    raise UserError("no data folder", "write --root FOLDER")


def alone(rank: int, folder: Path) -> None:
    if rank == 1:
        common(rank, folder)


def bug(rank: int, folder: Path) -> None:
    if rank == 1:
        raise ZeroDivisionError("of rank 1")


def killed(rank: int, folder: Path) -> None:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def deaf(rank: int, folder: Path) -> None:
    """As in a collective on CUDA: rank 0 hears of nothing."""
    watchdog.GRACE = 0.5
    if rank == 0:
        time.sleep(60)
    killed(rank, folder)


def stop(rank: int, folder: Path) -> None:
    with signals.catch_signals() as watch:
        (folder / f"ready-{rank}").touch()
        while watch.received is None:
            time.sleep(0.05)
    raise signals.Stopped(watch.received, "asked to stop", "--resume auto")


def hesitate(rank: int, folder: Path) -> None:
    """Heed the second signal only."""
    heard = []

    def hear(number: int, _: object) -> None:
        heard.append(number)
        (folder / f"heard-{len(heard)}-{rank}").touch()

    signal.signal(signal.SIGINT, hear)
    (folder / f"ready-{rank}").touch()
    while len(heard) < 2:
        time.sleep(0.05)


def wait(rank: int, folder: Path) -> None:
    (folder / f"ready-{rank}").touch()
    time.sleep(60)


Way = Callable[[int, Path], None]
ALONE: dict[str, Way] = {
    "common-early": common,
    "alone-early": alone,
    "killed-early": killed,
    "stop-early": stop,
    "hesitate": hesitate,
}
TOGETHER: dict[str, Way] = {
    "finish": finish,
    "common": common,
    "alone": alone,
    "bug": bug,
    "killed": killed,
    "deaf": deaf,
    "stop": stop,
    "wait": wait,
}


def take(way: str, folder: Path) -> None:
    main(["act", way, str(folder)])


if __name__ == "__main__":
    main()
