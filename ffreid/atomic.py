"""Files that are written completely or not at all."""

import errno
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ffreid.errors import UserError
from ffreid.files import regular

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


def check_writable(path: Path, *, stream: bool = True, magic: bytes = b"{") -> None:
    """Check that `write_json` can write `path`, or without `stream` that `atomic_write` can.

    A file that does not start with `magic` is not replaced.

    Nothing is changed but for a new folder. Of what is no file, a stream may be a device such as
    /dev/null, or a pipe of the shell such as /dev/stdout.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.resolve()
        if not path.exists():
            target.open("x").close()
            target.unlink()
            return
        if not (stream and (path.is_char_device() or not target.exists())):
            regular(path)
            with path.open("rb") as file:
                if start := file.read(len(magic)).removeprefix(magic):
                    raise UserError(
                        f"{path} is another kind of file: it starts with {start!r}",
                        "remove it, or use another path",
                    )
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        if not stream:
            tempfile.TemporaryFile(dir=target.parent).close()
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
