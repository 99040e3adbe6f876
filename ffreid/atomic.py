"""Files that are written completely or not at all."""

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ffreid.errors import UserError

_PARTIAL = re.compile(r"\.ffreid-[0-9a-f]{16}(\..+)?\.part")


def partial_file(path: Path) -> Path:
    """Return a new name beside `path` to write it under."""
    return path.with_name(f".ffreid-{secrets.token_hex(8)}{path.suffix}.part")


def remove_partial_files(folder: Path) -> None:
    """Remove what killed processes left in a folder that no other process is writing to."""
    for path in folder.glob(".ffreid-*.part"):
        if _PARTIAL.fullmatch(path.name):
            with suppress(OSError):  # it only takes space
                path.unlink()


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Replace `path` by what the block writes, flushed to disk; after an error it is unchanged.

    The data goes to a `partial_file` first, which a killed process leaves.

    Raises:
        OSError: the file cannot be written.
    """
    part = partial_file(path)
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        fsync_folder(path.parent)
    except BaseException:
        with suppress(OSError):  # keep the first error
            part.unlink(missing_ok=True)
        raise


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut; Windows cannot do this."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # not supported by some network file systems
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, payload: Mapping[str, Any]) -> None:
    """Write `payload` unrounded; NaN and infinity become null, as JSON has no such numbers.

    Raises:
        UserError: the file cannot be written; its earlier content is kept.
    """
    text = json.dumps(to_json_data(payload), indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = path.resolve().parent
        if path.exists() and not (path.is_file() and os.access(folder, os.W_OK)):
            path.write_text(text)  # a device, a pipe, or in a folder that is not writable
            return
        with atomic_write(path.resolve()) as file:  # a link is kept, and its target replaced
            file.write(text.encode())
    except OSError as error:
        raise _cannot_write(path, error) from error


def check_writable(path: Path) -> None:
    """Check that `path` can be written, without changing its content.

    Raises:
        UserError: it cannot.
    """
    is_new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write {path}: {error.strerror}",
        "free disk space, or use another path with --json FILE or --output FOLDER",
    )


def to_json_data(value: Any) -> Any:
    """Convert `value` to JSON data: numpy and torch scalars and arrays become Python's."""
    if isinstance(value, Mapping):
        return {str(key): to_json_data(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json_data(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
