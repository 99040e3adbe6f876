"""Toy datasets: where they are stored, and generating them on first use."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ffreid.errors import UserError
from ffreid.files import regular
from ffreid.report import log

if sys.platform != "win32":
    import fcntl

INFO_FILE = "toy.json"
"""Holds the parameters of the complete toy data in its folder."""

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


def generate_once(folder: Path, write: Callable[[Path], None], *, parameters: Parameters) -> Path:
    """Let `write` generate toy data in `folder`, unless it holds exactly these already.

    They are written to a temporary folder next to it, which is renamed when they are complete:
    nothing is ever replaced or deleted. While one process writes, others wait for it (not on
    Windows or file systems without locks: there each writes, and the first result is kept).

    Args:
        folder: new, empty, or of exactly these data.
        write: generates the data in the folder that is passed to it.
        parameters: all that the data depend on; kinds of toy data differ in ``kind``.

    Raises:
        UserError: `folder` holds something else, or a file cannot be written.
    """
    complete = {**parameters, "finished": True}
    if _read_info(folder) == complete:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent):
            if _read_info(folder) == complete:  # by the process we waited for
                return folder
            _check_free(folder, complete)
            log(f"generating toy data in {folder}")
            with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
                made = Path(temporary, folder.name)
                made.mkdir()
                write(made)
                (made / INFO_FILE).write_text(json.dumps(complete) + "\n")
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()  # Windows renames to new names only
                try:
                    made.rename(folder)
                except OSError:
                    if _read_info(folder) != complete:  # as another process wrote them
                        raise
    except OSError as error:
        raise UserError(
            f"cannot write toy data to {folder}: {error.strerror or error}",
            "use another folder: --root FOLDER or FFREID_CACHE",
        ) from error
    return folder


def _check_free(folder: Path, complete: Mapping[str, object]) -> None:
    """Refuse a folder with other toy data, incomplete ones, or other files."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (existing := _read_info(folder)):
        problem = f"is not empty and contains no toy data ({INFO_FILE})"
    elif existing.get("kind") != complete.get("kind"):
        problem = f"contains toy data of another kind ({INFO_FILE})"
    else:
        differing = [
            f"{name} {existing.get(name)!r}, not {value!r}"
            for name, value in complete.items()
            if existing.get(name) != value
        ]
        problem = f"contains other toy data ({INFO_FILE}: {', '.join(differing)})"
    raise UserError(
        f"{folder} {problem}",
        f"use a new folder: --root FOLDER, or set DATA.TOY to the values in its {INFO_FILE}",
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, where there are locks."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_info(folder: Path) -> dict[str, Any]:
    """Content of the info file; nothing if it is missing or broken."""
    try:
        info = json.loads(regular(folder / INFO_FILE).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}
