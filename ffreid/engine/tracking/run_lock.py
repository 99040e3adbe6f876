"""One process writes to a run folder at a time."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ffreid import atomic, report
from ffreid.engine.tracking import run_state
from ffreid.errors import UserError
from ffreid.files import check_file

NAME = ".lock"
BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def lock(folder: Path, instead: str = "start another run with --tag NAME") -> Iterator[None]:
    """Lock a run folder for this process, and remove the partial files of killed ones.

    `instead` is what one can do if another process writes to the folder.

    The lock ends with the process, however it ends; processes that it starts do not hold it.

    Raises:
        UserError: another process has locked the folder.
    """
    path = folder / NAME
    if os.path.lexists(path):
        check_file(path, "lock", "remove it")
    with run_state.write_errors(path):
        file = path.open("ab")
    with file:
        try:
            lock_file(file)
        except OSError as error:
            if error.errno in BUSY:
                state = run_state.read(folder) or {}
                known = "pid" in state and state.get("state") == "running"
                who = f" (process {state['pid']} on {state['host']})" if known else ""
                raise UserError(
                    f"another run is writing to {folder}{who}",
                    f"wait for its end or stop it, or {instead}",
                ) from error
            report.log(
                f"note: {path} cannot be locked ({error.strerror}): do not start a second run in "
                "this folder"
            )
        else:
            atomic.remove_partial_files(folder)
        yield


def lock_file(file: IO[bytes]) -> None:
    """Lock an open file for this process; an OSError of `BUSY` if another process has locked it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
