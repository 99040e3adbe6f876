"""Finding and reading a data set's files, with errors that name the file."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ffreid.errors import UserError, flat


def find_folder(root: Path, own_names: Sequence[str], evidence: Sequence[str], tree: str) -> Path:
    """Find a data set's own folder.

    Args:
        root: that folder, or the one that holds it.
        own_names: what the folder may be called below `root`.
        evidence: names of which the folder holds at least one.
        tree: the expected layout in one line, for the error.

    Raises:
        UserError: none of the candidates is such a folder.
    """
    # Own names first: many a folder has a "data" in it.
    for folder in (*(root / name for name in own_names), root):
        if any((folder / name).exists() for name in evidence):
            return folder
    raise UserError(f"no data set at {root}: {found(root)}", f"expected there: {tree}")


def read_lines(path: Path, entry: str = "frame") -> list[str]:
    """Read a list file: its lines without blanks and empty lines.

    Args:
        path: of the list.
        entry: what a line names, for the error.

    Raises:
        UserError: the file is missing, unreadable or empty.
    """
    try:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the list {path}: {_why(error)}",
            f"a text file with a {entry} a line is expected; {path.parent}: {found(path.parent)}",
        ) from error
    if not lines:
        raise UserError(f"the list {path} is empty", f"write one {entry} a line")
    return lines


def read_picture(path: Path, kind: Literal["colour", "depth", "label"]) -> npt.NDArray[Any]:
    """Read a picture: (H, W, 3) uint8 RGB, or (H, W) as stored for depth and labels.

    Of a label picture with several channels the first is taken.

    Raises:
        UserError: the file is missing, broken or of the wrong kind.
    """
    if kind == "colour":
        return np.array(open_picture(path))
    with _damage_told(path, kind), Image.open(path) as image:
        picture = np.array(image)
    if kind == "label" and picture.ndim == 3:
        picture = picture[..., 0]
    if picture.ndim != 2:
        raise UserError(
            f"{path}: shape {picture.shape}, not one channel", f"store {kind} as a one-channel PNG"
        )
    return picture


def open_picture(path: Path) -> Image.Image:
    """Read a colour picture whole: RGB, whatever it is stored as.

    Raises:
        UserError: the file is missing or broken.
    """
    with _damage_told(path, "colour"), Image.open(path) as image:
        return image.convert("RGB")


def found(root: Path) -> str:
    """Say what a folder holds, for an error."""
    if not root.exists():
        return "it does not exist"
    if not root.is_dir():
        return "it is not a folder"
    names = sorted(entry.name for entry in root.iterdir())
    return "found " + (", ".join(names[:8]) + (", …" if len(names) > 8 else "") or "nothing")


@contextmanager
def _damage_told(path: Path, kind: str) -> Iterator[None]:
    """Tell what Pillow raises over a missing or broken file as the user's error."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(
            f"no {kind} picture {path}", "complete the data set, or take the frame off its list"
        ) from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise UserError(
            f"cannot read {path}: {_why(error)}", "the file is damaged: copy or unpack it again"
        ) from error


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return flat(str(error)) or type(error).__name__


def write_picture(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write an (H, W, 3) uint8 RGB picture as PNG or JPEG, by the suffix; make its folder.

    Raises:
        UserError: another suffix, or the file cannot be written.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"cannot write a picture to {path}", "end the name in .png or .jpg")
    done, content = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(rgb[..., ::-1]))
    assert done
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.tobytes())
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}", "choose a folder you can write to"
        ) from error
