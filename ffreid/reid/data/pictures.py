"""Decoding and resizing images to 8 bits per channel.

A picture is Pillow's, whose values are those recorded from Simple-CCReID, or an array (H, W, 3)
uint8, which is decoded and resized in less time. JPEGs are decoded alike. Resized arrays differ by
1 level at most (bicubically 2), in less than 1 % of the values.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn.functional import interpolate

from ffreid.engine.dataset_files import open_image, read_plain_jpeg

Pixels = npt.NDArray[np.uint8]
"""(H, W, 3) RGB; clips (T, H, W, 3)."""
Picture = Image.Image | Pixels
Decoder = Literal["fast", "pil"]
"""Whether pictures are arrays or Pillow's."""
Method = Literal["bilinear", "bicubic"]


def read_picture(path: Path, decode: Decoder) -> Picture:
    """Read an image as `dataset_files.to_rgb` converts it.

    Raises:
        UserError: it cannot be read.
    """
    if decode == "pil":
        return open_image(path)
    found = read_plain_jpeg(path)
    return np.array(open_image(path)) if found is None else found


def resize(picture: Picture, height: int, width: int, method: Method = "bilinear") -> Picture:
    """Resize, weighting all pixels that a pixel covers; a picture of that size stays as it is."""
    if isinstance(picture, Image.Image):
        return picture.resize((width, height), Image.Resampling[method.upper()])
    if picture.shape[:2] == (height, width):
        return picture
    tensor = torch.from_numpy(picture)[None].permute(0, 3, 1, 2)
    resized = interpolate(tensor, (height, width), mode=method, antialias=True)
    result: Pixels = resized[0].permute(1, 2, 0).numpy()
    return result


def height_and_width(picture: Picture) -> tuple[int, int]:
    """The picture's size."""
    if isinstance(picture, Image.Image):
        return picture.height, picture.width
    return picture.shape[0], picture.shape[1]


def as_pixels(picture: Picture) -> Pixels:
    """The picture as an array."""
    return np.array(picture) if isinstance(picture, Image.Image) else picture
