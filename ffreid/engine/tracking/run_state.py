"""``state.json`` in a run folder: what the run is doing, for other programs."""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ffreid.atomic import atomic_write, to_json_data
from ffreid.engine.signals import process_exists
from ffreid.errors import UserError
from ffreid.files import regular

NAME = "state.json"
TIMEOUT = 3600.0
"""Seconds without an update after which a run on another host is considered dead."""
_FORMAT = "%Y-%m-%dT%H:%M:%S%z"


def now() -> str:
    """Return the time as written in run folders."""
    return time.strftime(_FORMAT)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a UserError: ``path`` of the run cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}",
            "free disk space or restore the folder, then resume with --resume auto; "
            "checkpoints are intact",
        ) from error


def rewrite(path: Path, content: str | bytes) -> None:
    """Replace a file of the run atomically."""
    with write_errors(path), atomic_write(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write(folder: Path, status: dict[str, Any]) -> None:
    """Write the status of a run with the process and host that it runs on."""
    pid = os.getpid()
    owner = {"pid": pid, "host": socket.gethostname(), "process": _start_time(pid)}
    content = to_json_data(status | owner | {"updated": now()})
    rewrite(folder / NAME, json.dumps(content, indent=1) + "\n")


def read(folder: Path) -> dict[str, Any] | None:
    """Read the status of a run; its state is ``died`` if it should be running but is not.

    None if there is no readable file (runs of earlier versions).
    """
    status = None
    with suppress(OSError, ValueError, RecursionError):
        status = json.loads(regular(folder / NAME).read_text())
    if not isinstance(status, dict):
        return None
    if status.get("state") == "running" and not _is_alive(status):
        status["state"] = "died"
    return status


def _is_alive(status: dict[str, Any]) -> bool:
    """Whether the process exists, or a run on another host was updated within `TIMEOUT`."""
    windows = sys.platform == "win32"  # where os.kill would end the process
    if status.get("host") != socket.gethostname() or windows:
        try:
            updated = datetime.strptime(str(status.get("updated")), _FORMAT)
        except ValueError:
            return False
        return time.time() - updated.timestamp() < TIMEOUT
    pid = status.get("pid")
    if not isinstance(pid, int) or pid <= 0 or not process_exists(pid):
        return False
    # The number may belong to another process by now.
    return _start_time(pid) == status.get("process")


def _start_time(pid: int) -> int | None:
    """Return a process's start in clock ticks since boot (proc(5), field 22); None if unknown."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text()
        return int(text.rpartition(")")[2].split()[19])  # the name in parentheses may hold blanks
    return None
