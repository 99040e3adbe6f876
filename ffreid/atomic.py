"""Files written whole or not at all."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ffreid.errors import UserError


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Write `path` anew, whole and on the disk, or leave it as it is: a kill breaks nothing.

    What is written goes to ``path.part``, which takes the name of `path` at the end; a killed
    process leaves it behind, and the next one writes over it.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        fsync_folder(path.parent)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            part.unlink(missing_ok=True)
        raise


def fsync_folder(folder: Path) -> None:
    """Put a folder's names on the disk: a renamed file has its new one after a power cut too."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network disks have no such thing
            os.fsync(opened)
    finally:
        os.close(opened)


def write_json(path: Path, payload: Mapping[str, Any]) -> None:
    """Write `payload` unrounded; NaN and infinity become null, so that every parser reads it.

    Raises:
        UserError: the file cannot be written; what it held stays.
    """
    text = json.dumps(plain(payload), indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _in_place(path):
            path.write_text(text)
            return
        # A link stays one, to a new file.
        with atomic_write(path.resolve()) as file:
            file.write(text.encode())
    except OSError as error:
        raise _unwritable(path, error) from error


def _in_place(path: Path) -> bool:
    """Whether `path` cannot be replaced: a device, a pipe, a file in a folder that is not ours."""
    return path.exists() and not (path.is_file() and os.access(path.resolve().parent, os.W_OK))


def check_writable(path: Path) -> None:
    """Prove before long work that `path` can be written; what it holds stays.

    Raises:
        UserError: it cannot.
    """
    new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
        if new:
            path.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write {path}: {error.strerror}",
        "free some space, or choose another place with --json FILE or --output FOLDER",
    )


def plain(value: Any) -> Any:
    """Give `value` as plain JSON data: numpy and torch scalars and arrays become Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
