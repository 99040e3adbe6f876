"""Data that are made on first use: which folder holds them, whether they are finished."""

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ffreid.errors import UserError

if sys.platform != "win32":
    import fcntl

MARKER = "toy.json"

Facts = Mapping[str, int | str]


def home(root: str, output: str, dataset: str, name: str) -> Path:
    """Say where made data lie.

    Args:
        root: what the user named: a folder of such data, or where one goes; "" for neither.
        output: folder of runs, below which they lie then.
        dataset: the data set's name.
        name: of the folder, another for all that the data depend on.
    """
    if not root:
        return Path(output, dataset, "data", name)
    return Path(root) if Path(root, MARKER).is_file() else Path(root, dataset, name)


def ensure(folder: Path, write: Callable[[], None], *, facts: Facts, parts: Iterable[str]) -> Path:
    """Let `write` make toy data in `folder`, unless it holds exactly these already.

    ``toy.json`` says whose folder it is, and calls the data finished only once all else is
    written. Toy data of other sizes, or left unfinished, are replaced. While one process writes,
    others that ask wait, and then find what they want (not on Windows, nor where the file system
    has no locks: let one return there before others ask).

    Args:
        folder: where to; new, empty or of such toy data.
        write: called when there is something to do; `folder` is there, without its `parts`.
        facts: all that the data depend on; two kinds of toy data differ in ``kind``.
        parts: files and folders below `folder` that `write` makes, and of which nothing stays
            when it is called.

    Returns:
        `folder`.

    Raises:
        UserError: `folder` holds something else, or a file cannot be written.
    """
    wanted = {**facts, "finished": True}
    if _said(folder) == wanted:
        return folder
    _check_own(folder, facts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / MARKER).open("a") as marker:
            _wait_for(marker)
            # Perhaps the one we waited for has made them.
            if _said(folder) != wanted:
                _say(folder, {**facts, "finished": False})
                _remove(folder, parts)
                write()
                _say(folder, wanted)
    except OSError as error:
        raise UserError(
            f"cannot write toy data to {folder}: {error.strerror or error}", "name another folder"
        ) from error
    return folder


def _check_own(folder: Path, facts: Facts) -> None:
    # The marker is looked for last: another process that has just begun writes it first.
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise UserError(
            f"{folder} is not empty and holds no toy data ({MARKER})",
            "name a new folder for the toy data",
        )
    said = _said(folder)
    if said and said.get("kind") != facts.get("kind"):
        raise UserError(
            f"{folder} holds toy data of another kind ({MARKER})",
            "name a new folder for the toy data",
        )


def _wait_for(marker: IO[str]) -> None:
    """Lock the file, until it is closed or the process ends however it may."""
    if sys.platform != "win32":
        # A file system without locks does as Windows does.
        with suppress(OSError):
            fcntl.flock(marker, fcntl.LOCK_EX)


def _said(folder: Path) -> dict[str, Any]:
    """What ``toy.json`` says; nothing where there is none, or a broken one."""
    try:
        said = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _say(folder: Path, facts: Facts) -> None:
    # Written in place: a renamed file would leave those who wait with the lock of the old one.
    (folder / MARKER).write_text(json.dumps(facts) + "\n")


def _remove(folder: Path, parts: Iterable[str]) -> None:
    for part in parts:
        path = folder / part
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
