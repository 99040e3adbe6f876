"""Files that people or datasets name: regular ones, so that opening and reading them ends."""

import errno
import io
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ffreid.errors import UserError

_KINDS = {
    stat.S_IFDIR: "it is a folder",
    stat.S_IFIFO: "it is a pipe (FIFO), not a file",
    stat.S_IFSOCK: "it is a socket, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
}


def regular(path: Path) -> Path:
    """Return `path` if it is a regular file, or a link to one.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        OSError: there is something else, named by ``strerror``; or it cannot be looked up.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        if not path.is_symlink():
            raise
        reason = f"it is a link to {path.readlink()}, which does not exist"
        raise OSError(errno.EINVAL, reason, str(path)) from None
    except ValueError as error:  # a NUL
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    if kind != stat.S_IFREG:
        number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
        raise OSError(number, _KINDS.get(kind, "it is not a regular file"), str(path))
    return path


@dataclass(frozen=True)
class Member:
    """A file in an uncompressed archive: its name there, where it begins, and its length."""

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def read_bytes(self) -> bytes:
        """Read the content."""
        with regular(self.archive).open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


File = Path | Member
"""What datasets have as a file."""


def opened(file: File) -> BinaryIO:
    """Open a file to read it, if it is a regular one.

    Raises:
        OSError: see `regular`.
    """
    if isinstance(file, Member):
        return io.BytesIO(file.read_bytes())
    return regular(file).open("rb")


def check_file(path: Path, kind: str, hint: str) -> Path:
    """Return `path` if it is a regular file; `kind` is what it should be, e.g. ``checkpoint``.

    Raises:
        UserError: it is not, or does not exist.
    """
    try:
        return regular(path)
    except FileNotFoundError as error:
        raise UserError(f"no {kind} {path}", hint) from error
    except OSError as error:
        raise UserError(f"cannot read the {kind} {path}: {error.strerror}", hint) from error
