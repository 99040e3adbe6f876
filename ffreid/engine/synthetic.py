"""Toy datasets: where they are stored, and generating them on first use."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ffreid.errors import UserError
from ffreid.files import regular
from ffreid.report import log

if sys.platform != "win32":
    import fcntl

INFO_FILE = "toy.json"
"""Holds the parameters of the toy data in its folder, and whether they are complete."""

Parameters = Mapping[str, int | str]


def cache_folder() -> Path:
    """$FFREID_CACHE, else ffreid in the user's cache folder."""
    if folder := os.environ.get("FFREID_CACHE"):
        return Path(folder)
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return Path(os.environ.get(variable) or Path.home() / ".cache", "ffreid")


def toy_folder(root: str, dataset: str, name: str) -> Path:
    """Folder `name` of a toy dataset in `root`, which may be it already, or in the cache."""
    if root and Path(root, INFO_FILE).is_file():
        return Path(root)
    return Path(root or cache_folder(), dataset, name)


def generate_once(
    folder: Path, write: Callable[[], None], *, parameters: Parameters, parts: Iterable[str]
) -> Path:
    """Let `write` generate toy data in `folder`, unless it holds exactly these already.

    Toy data of other parameters, or incomplete ones, are replaced. While one process writes,
    others wait for it (not on Windows or file systems without locks: call it in one process first).

    Args:
        folder: new, empty or of toy data.
        write: generates `parts`, files and folders below `folder`, which are removed before.
        parameters: all that the data depend on; kinds of toy data differ in ``kind``.

    Raises:
        UserError: `folder` holds something else, or a file cannot be written.
    """
    complete = {**parameters, "finished": True}
    if (existing := _read_info(folder)) == complete:
        return folder
    info, hint = folder / INFO_FILE, "use a new folder for the toy data"
    # The file is looked for last: another process that has just started writes it first.
    if folder.is_dir() and any(folder.iterdir()) and not info.is_file():
        raise UserError(f"{folder} is not empty and contains no toy data ({INFO_FILE})", hint)
    if existing and existing.get("kind") != parameters.get("kind"):
        raise UserError(f"{folder} contains toy data of another kind ({INFO_FILE})", hint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with info.open("a") as lock:
            if sys.platform != "win32":
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(lock, fcntl.LOCK_EX)
            if _read_info(folder) != complete:  # unless the process we waited for wrote them
                log(f"generating toy data in {folder}")
                # In place: after a rename those who wait would hold the lock of the old file.
                info.write_text(json.dumps({**parameters, "finished": False}) + "\n")
                for path in (folder / part for part in parts):
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink(missing_ok=True)
                write()
                info.write_text(json.dumps(complete) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write toy data to {folder}: {error.strerror or error}",
            "use another folder: --root FOLDER or FFREID_CACHE",
        ) from error
    return folder


def _read_info(folder: Path) -> dict[str, Any]:
    """Content of the info file; nothing if it is missing or broken."""
    try:
        info = json.loads(regular(folder / INFO_FILE).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}
