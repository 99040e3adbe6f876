"""``state.json`` in a run folder: what the run is doing, for those who look from outside."""

import json
import os
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from ffreid.atomic import atomic_write, plain
from ffreid.errors import UserError

NAME = "state.json"
SILENT = 3600.0
"""Seconds without a word after which a run on another host is held for dead."""
_FORMAT = "%Y-%m-%dT%H:%M:%S%z"


def now() -> str:
    """Give the time as run folders have it."""
    return time.strftime(_FORMAT)


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Write what a run is doing, and which process of which host it is; whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    pid = os.getpid()
    owner = {"pid": pid, "host": socket.gethostname(), "process": _birth(pid), "updated": now()}
    path = folder / NAME
    content = json.dumps(plain(facts | owner), indent=1) + "\n"
    try:
        with atomic_write(path) as file:
            file.write(content.encode())
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}",
            "make room there, then go on with --resume auto",
        ) from error


def read(folder: Path) -> dict[str, Any] | None:
    """Give what a run last said, with ``died`` for one that is said to run and does not.

    None where it said nothing that can be read (runs of earlier versions).
    """
    try:
        facts = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(facts, dict):
        return None
    if facts.get("state") == "running" and not _lives(facts):
        facts["state"] = "died"
    return facts


def _lives(facts: dict[str, Any]) -> bool:
    """Whether the process is there; of another host, whether it spoke lately."""
    if facts.get("host") != socket.gethostname():
        try:
            spoke = datetime.strptime(str(facts.get("updated")), _FORMAT)
        except ValueError:
            return False
        return time.time() - spoke.timestamp() < SILENT
    pid = facts.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, but there
    # The number may have been given to another process since.
    return _birth(pid) == facts.get("process")


def _birth(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may hold blanks (proc(5), field 22).
    return int(text.rpartition(")")[2].split()[19])
