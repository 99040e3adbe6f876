"""Augmentation of training frames: colour, noise, blur, real backgrounds for rendered objects.

Every function draws from the generator passed in, in the order in which the original draws from
numpy's, so equal seeds give equal images.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ffreid.errors import UserError
from ffreid.pose.data.frame import Frame

RgbImage = npt.NDArray[np.uint8]
Policy = Literal["ycb", "linemod"]
"""Which dataset's augmentation of the original applies."""

# Ranges of the saturation and value factors; YCB-Video's always change the image.
SATURATION = {"ycb": (1.25, 1.45), "linemod": (0.75, 1.25)}
VALUE = {"ycb": (1.15, 1.35), "linemod": (0.85, 1.15)}


def augment_synthetic(
    frame: Frame,
    draw_real: Callable[[np.random.RandomState], Frame],
    rng: np.random.RandomState,
    *,
    policy: Policy,
) -> Frame:
    """Add noise to a rendered (or fused) frame's colours and a real frame's background behind it.

    LineMOD's fused frames have a background already: one in five stays unchanged. `draw_real`
    draws a real training frame of the same size.
    """
    if frame.name.startswith("fuse/") and rng.rand() >= 0.8:
        return frame
    rgb = add_noise(frame.rgb, rng, policy=policy)
    frame = add_real_background(replace(frame, rgb=rgb), draw_real(rng), rng, policy=policy)
    if rng.rand() > 0.8:
        frame = replace(frame, rgb=add_noise(frame.rgb, rng, policy=policy))
    return frame


def add_real_background(
    frame: Frame, real: Frame, rng: np.random.RandomState, *, policy: Policy
) -> Frame:
    """Fill a rendered frame's background with a real frame's background.

    Where the real frame has objects the background stays black and without depth. LineMOD replaces
    the colours only in 60 % of the cases, the missing depth always. As in the original the cameras
    are not compared.
    """
    if real.depth.shape != frame.depth.shape:
        sizes = [" x ".join(map(str, f.depth.shape)) for f in (frame, real)]
        raise UserError(
            f"frame {frame.name} has {sizes[0]} pixels, the real frame {real.name} {sizes[1]}",
            "resize all frames of the dataset to one size, or set DATA.AUGMENT False",
        )
    outside = real.labels <= 0
    rgb = frame.rgb
    if policy == "ycb" or rng.rand() < 0.6:
        background = real.rgb * outside[..., None]
        rgb = np.where((frame.labels <= 0)[..., None], background, rgb).astype(np.uint8)
    # Equal scales, the usual case, stay exact.
    units = 1.0 if real.depth_scale == frame.depth_scale else frame.depth_scale / real.depth_scale
    behind = real.depth * np.float32(units) * outside
    depth = np.where(frame.depth > 0, frame.depth, behind).astype(np.float32)
    return replace(frame, rgb=rgb, depth=depth)


def colour_jitter(rgb: RgbImage, rng: np.random.RandomState) -> RgbImage:
    """Change brightness, contrast and saturation by up to 20 % and hue by up to 0.05 turns.

    The arithmetic and the random order are torchvision's `ColorJitter`, the draws are ours.
    """
    from torchvision.transforms import functional  # takes seconds: only where training augments

    changes = (
        (functional.adjust_brightness, rng.uniform(0.8, 1.2)),
        (functional.adjust_contrast, rng.uniform(0.8, 1.2)),
        (functional.adjust_saturation, rng.uniform(0.8, 1.2)),
        (functional.adjust_hue, rng.uniform(-0.05, 0.05)),
    )
    image = Image.fromarray(rgb)
    for index in rng.permutation(len(changes)):
        change, amount = changes[index]
        image = change(image, amount)
    return np.array(image)


def add_noise(rgb: RgbImage, rng: np.random.RandomState, *, policy: Policy) -> RgbImage:
    """Change colour, sharpness and focus and add (YCB-Video) pixel noise, each with a probability.

    LineMOD's policy has no sharpening and pixel noise and changes colours less.
    """
    rng.rand()  # the original compares it with 0
    # The original calls this conversion on RGB; the hue is not used, so only names are wrong.
    hsv = cv2.cvtColor(rgb, cv2.COLOR_BGR2HSV).astype(np.uint16)
    for channel, (low, high) in ((1, SATURATION[policy]), (2, VALUE[policy])):
        hsv[..., channel] = np.clip(hsv[..., channel] * rng.uniform(low, high), 0, 255)
    image = _rgb(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR))
    if policy == "ycb" and rng.rand() > 0.8:
        sharpen = -np.ones((3, 3))
        sharpen[1, 1] = rng.rand() * 3 + 9
        image = _rgb(cv2.filter2D(image, -1, sharpen / sharpen.sum()))
    if rng.rand() > 0.8:
        angle = int(rng.rand() * 360)
        image = motion_blur(image, angle, int(rng.rand() * 15) + 1)
    if rng.rand() > 0.8:
        size = 3 if rng.rand() > 0.2 else 5
        image = _rgb(cv2.GaussianBlur(image, (size, size), rng.rand()))
    if policy == "linemod":
        return image
    spread = rng.randint(15) if rng.rand() > 0.2 else rng.randint(25)
    image = _add(image, rng.randn(*image.shape) * spread)
    if rng.rand() > 0.8:
        image = _add(image, rng.normal(loc=0.0, scale=7.0, size=image.shape))
    return image


def motion_blur(rgb: RgbImage, angle: int, length: int) -> RgbImage:
    """Blur along a line of `length` pixels at `angle` degrees."""
    radians = np.deg2rad(angle)
    dx, dy = np.cos(radians), np.sin(radians)
    size = int(max(abs(dx), abs(dy)) * length * 2)
    if size <= 0:
        return rgb
    middle = size // 2
    kernel = np.zeros((size, size))
    end = (int(dx * length + middle), int(dy * length + middle))
    cv2.line(kernel, (middle, middle), end, 1.0)
    total = kernel.sum()
    return _rgb(cv2.filter2D(rgb, -1, kernel / total)) if total else rgb


def _add(rgb: RgbImage, noise: npt.NDArray[np.float64]) -> RgbImage:
    return np.clip(rgb + noise, 0, 255).astype(np.uint8)


def _rgb(value: Any) -> RgbImage:
    return cast(RgbImage, value)
