"""What a structured-light camera makes of a scene: depth with noise and holes, and its colours.

Depth comes from the shift (disparity) of a projected pattern between a projector and a camera. As
in the first Kinect and its kin, disparity has noise and steps of an eighth of a pixel, so errors
grow with the square of the distance (Khoshelham & Elberink, Sensors 2012: 1.4 mm at 1 m).
"""

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.pose.render.renderers import Image

FOCAL, BASELINE = 580.0, 0.075
"""Pixels of the sensor's own camera, and metres between projector and camera."""
STEP, FARTHEST = 1 / 8, 4.5
"""Of disparity, pixels; metres."""
NOISE = 0.03, 0.09
"""Range of the standard deviation of disparity, pixels."""

_Depth = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]


def sense_depth(image: Image, focal: float, rng: np.random.Generator) -> _Depth:
    """Simulate the depth (H, W) that is measured, metres, 0 in holes.

    Holes are where the pattern does not arrive or return: what the projector beside the camera
    does not see, half the pixels at edges, grazing angles, highlights and dark surfaces (in
    patches, most of them), what is far, and 0.4 % of all pixels. `focal` is in pixels.
    """
    depth = image.depth
    there = (depth > 0) & (depth < FARTHEST)
    disparity = FOCAL * BASELINE / np.where(there, depth, FARTHEST)
    shape = depth.shape
    # Neighbours share a part of their noise: the pattern is compared in windows.
    half = rng.standard_normal((-(-shape[0] // 2), -(-shape[1] // 2)), np.float32)
    noise = cv2.resize(half, shape[::-1], interpolation=cv2.INTER_LINEAR)
    measured = disparity + np.float32(rng.uniform(*NOISE)) * noise
    measured = np.maximum(np.rint(measured / STEP) * STEP, STEP)
    lost = rng.integers(0, 256, shape, np.uint8)
    edges = _edges(depth) & (image.facing > 0.2)
    holes = _unseen(depth, focal, rng.random() < 0.5) | (edges & (lost < 128)) | ~there
    brightness = cv2.max(cv2.max(*cv2.split(image.rgb)[:2]), cv2.extractChannel(image.rgb, 2))
    doubt = np.maximum(1.5 * image.specular, 0.8 - brightness / np.float32(50))
    doubt = np.maximum(doubt, 1.15 - 3 * image.facing)
    holes |= doubt > _patches(shape, rng) + lost / np.float32(600)
    holes |= lost == 255
    return np.where(holes, 0, np.float32(FOCAL * BASELINE) / measured).astype(np.float32)


def _edges(depth: _Depth) -> _Mask:
    """Pixels next to a jump of more than 2 % of the distance."""
    kernel = np.ones((3, 3), np.uint8)
    near = cv2.erode(depth, kernel)
    return np.asarray(cv2.dilate(depth, kernel) - near > 0.02 * near)


def _unseen(depth: _Depth, focal: float, right: bool) -> _Mask:
    """Pixels that a projector to the camera's right (or left) does not see."""
    flipped = depth if right else depth[:, ::-1]
    columns = np.arange(depth.shape[1], dtype=np.float32)
    shift = np.float32(focal * BASELINE) / np.where(flipped > 0, flipped, np.inf)
    places = columns - shift  # in the projector's image
    # What is nearer, further right and projected further left stands before it.
    ahead = np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]
    hidden = places > ahead + 0.25
    return hidden if right else hidden[:, ::-1]


def _patches(shape: tuple[int, ...], rng: np.random.Generator) -> _Depth:
    """Smooth noise (H, W) of about 0.3 to 0.9: what lets a doubtful pixel pass."""
    height, width = (max(side // 12, 2) for side in shape)
    field = rng.random((height, width), np.float32)
    smooth = cv2.resize(field, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(0.3 + 0.6 * smooth)


def sense_colour(rgb: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Simulate blur, exposure, white balance, contrast and noise of a colour camera."""
    blurred = cv2.GaussianBlur(rgb, (5, 5), float(rng.uniform(0.35, 0.9)))
    levels = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.8, 1.25)
    levels = levels * rng.uniform(0.85, 1.2) * rng.uniform(0.94, 1.06, 3)
    table = np.rint(255 * levels).clip(0, 255).astype(np.uint8)
    exposed = cv2.LUT(blurred, table[None])
    # Two bytes' mean is nearly normal, and made in a fraction of the time.
    spread = rng.uniform(1, 6) / (256 / np.sqrt(24))
    draws = np.frombuffer(rng.bytes(2 * rgb.size), np.uint8).reshape(2, *rgb.shape)
    noise = cv2.addWeighted(draws[0], 0.5, draws[1], 0.5, 0)
    steps = np.rint((np.arange(256) - 127.5) * spread).astype(np.int16)
    noisy: npt.NDArray[np.uint8] = np.clip(exposed + steps[noise], 0, 255).astype(np.uint8)
    return noisy
