"""Finding, reading and writing files of a dataset, with errors that name the file."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ffreid.errors import UserError, flat

DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""Errors that Pillow raises for damaged files, besides `Image.DecompressionBombError`."""


def find_folder(root: Path, names: Sequence[str], evidence: Sequence[str], layout: str) -> Path:
    """Find a dataset's folder: `root`, or one of the `names` below it.

    It contains a file or folder of `evidence`; `layout` describes it in the error.
    """
    # Below the root first: many a folder has a "data" in it.
    for folder in (*(root / name for name in names), root):
        if any((folder / name).exists() for name in evidence):
            return folder
    raise UserError(f"no dataset at {root}: {describe_folder(root)}", f"expected layout: {layout}")


def describe_folder(folder: Path) -> str:
    """The content of a folder, for an error."""
    if not folder.exists():
        return "it does not exist"
    if not folder.is_dir():
        return "it is not a folder"
    names = sorted(entry.name for entry in folder.iterdir())
    return "found " + (", ".join(names[:8]) + (", …" if len(names) > 8 else "") or "nothing")


def read_lines(path: Path, entry: str = "frame") -> list[str]:
    """Lines of a list file, stripped, without empty ones; each names an `entry`."""
    try:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the list {path}: {_reason(error)}",
            f"expected: a text file with one {entry} per line; {path.parent}: "
            f"{describe_folder(path.parent)}",
        ) from error
    if not lines:
        raise UserError(f"the list {path} is empty", f"write one {entry} per line")
    return lines


def open_image(path: Path) -> Image.Image:
    """Read an RGB image of any file type."""
    with _open(path, "image") as image:
        return image.convert("RGB")


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an RGB image as (H, W, 3)."""
    return np.array(open_image(path))


def read_single_channel(
    path: Path, kind: str, *, first_of_several: bool = False
) -> npt.NDArray[Any]:
    """Read a one-channel image (H, W) as stored, or the first of several channels.

    `kind` is e.g. "label image", for errors.
    """
    with _open(path, kind) as image:
        array = np.array(image)
    if first_of_several and array.ndim == 3:
        array = array[..., 0]
    if array.ndim != 2:
        raise UserError(
            f"{path} has shape {array.shape}, not one channel",
            f"store a {kind} as a single-channel PNG",
        )
    return array


@contextmanager
def _open(path: Path, kind: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise UserError(
            f"no {kind} {path}", "complete the dataset, or remove the sample from its list"
        ) from error
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise UserError(
            f"cannot read {path}: {_reason(error)}", "the file is damaged: copy or extract it again"
        ) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or flat(str(error)) or type(error).__name__


def write_image(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write an RGB image (H, W, 3) as PNG or JPEG, by the suffix; create its folder."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"cannot write an image to {path}", "use a name that ends in .png or .jpg")
    encoded, content = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(rgb[..., ::-1]))
    assert encoded
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.tobytes())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", "use another folder") from error
