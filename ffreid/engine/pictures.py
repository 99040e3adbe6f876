"""Writing pictures."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError


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
