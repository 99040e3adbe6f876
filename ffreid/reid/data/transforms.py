"""Augmentation and preprocessing of images and clips, exactly as in Simple-CCReID.

Images are resized bilinearly, frames of tracklets bicubically; both are normalised with ImageNet's
statistics. Random numbers are drawn in the same order. ``pixels`` is what data workers compute,
`normalise` and `erase` the rest, which calling a transform includes.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ffreid.reid.data.clips import crop_by_segment, crop_by_stride
from ffreid.reid.data.pictures import Picture, Pixels, as_pixels, height_and_width, resize

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
# CIFAR's means, written over normalised values: what the published models were trained with.
ERASED = (0.4914, 0.4822, 0.4465)


@dataclass
class SampleRandom:
    """Random generators of one sample's augmentation; `seed` is that of `numpy_rng`."""

    rng: random.Random
    flip_generator: torch.Generator
    seed: int

    @cached_property
    def numpy_rng(self) -> np.random.RandomState:
        """Numpy's legacy generator, for clips of short tracklets; slow to create."""
        return np.random.RandomState(self.seed)


def sample_random(*seeds: int) -> SampleRandom:
    """Generators that depend on `seeds` (each 0 or more) only."""
    first, second, third = np.random.SeedSequence(seeds).generate_state(3).tolist()
    return SampleRandom(random.Random(first), torch.Generator().manual_seed(second), third)


def random_crop(picture: Picture, probability: float, rng: random.Random) -> Picture:
    """Enlarge a picture by an eighth and crop it to its size, or leave it unchanged."""
    if rng.uniform(0, 1) >= probability:
        return picture
    height, width = height_and_width(picture)
    larger = round(height * 1.125), round(width * 1.125)
    enlarged = resize(picture, *larger)
    left = round(rng.uniform(0, larger[1] - width))
    top = round(rng.uniform(0, larger[0] - height))
    if isinstance(enlarged, Image.Image):
        return enlarged.crop((left, top, left + width, top + height))
    return enlarged[top : top + height, left : left + width]


Box = tuple[int, int, int, int]
"""Top, bottom, left and right of the rectangle that is erased."""


def random_box(rows: int, columns: int, probability: float, rng: random.Random) -> Box | None:
    """Draw the rectangle of random erasing, or none (Zhong et al. 2020)."""
    if rng.uniform(0, 1) >= probability:
        return None
    for _ in range(100):
        area = rng.uniform(0.02, 0.4) * (rows * columns)
        ratio = rng.uniform(0.3, 1 / 0.3)
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width < columns and height < rows:
            top = rng.randint(0, rows - height)
            left = rng.randint(0, columns - width)
            return top, top + height, left, left + width
    return None


def erase(images: Tensor, box: Box | None) -> None:
    """Fill a rectangle of images (3, …, H, W) with a colour, in place; in clips of all frames."""
    if box is not None:
        top, bottom, left, right = box
        for channel, value in zip(images, ERASED, strict=True):
            channel[..., top:bottom, left:right] = value


def random_erasing(images: Tensor, probability: float, rng: random.Random) -> None:
    """Draw a rectangle of images (3, …, H, W) and `erase` it, with a probability."""
    rows, columns = images.shape[-2:]
    erase(images, random_box(rows, columns, probability, rng))


def should_flip_image(probability: float, flip_generator: torch.Generator) -> bool:
    """Draw whether to flip an image horizontally."""
    return bool(torch.rand(1, generator=flip_generator) < probability)


def flipped(pixels: Pixels) -> Pixels:
    """Mirror pictures (…, H, W, 3) horizontally."""
    rows: Any = cv2.flip(pixels.reshape(-1, *pixels.shape[-2:]), 1)  # numpy takes 30 times as long
    return np.asarray(rows, np.uint8).reshape(pixels.shape)


def should_flip_clip(rng: random.Random) -> bool:
    """Draw whether to flip all frames of a clip, with probability 0.5."""
    return rng.random() < 0.5


def normalise(pixels: Tensor, device: torch.device | None = None) -> Tensor:
    """Put channels first and normalise on `device`: (B, …, H, W, 3) uint8 to (B, 3, …, H, W)."""
    moved = pixels.to(device, non_blocking=True).movedim(-1, 1)
    images = moved.to(torch.float32, memory_format=torch.contiguous_format)
    shape = (1, 3, *[1] * (images.ndim - 2))
    # In this order, and divided by tensors: GPUs multiply by the reciprocal of a number.
    for change, values in ((images.div_, [255] * 3), (images.sub_, MEAN), (images.div_, DEVIATION)):
        change(torch.tensor(values, dtype=torch.float32).to(images.device).view(shape))
    return images


def prepared(pixels: Pixels, box: Box | None = None) -> Tensor:
    """Normalise and erase a picture or clip: (…, H, W, 3) uint8 to (3, …, H, W) float32."""
    images = normalise(torch.from_numpy(pixels)[None])[0]
    erase(images, box)
    return images


def _clip(pictures: Sequence[Picture], height: int, width: int) -> Pixels:
    return np.stack([as_pixels(resize(p, height, width, "bicubic")) for p in pictures])


@dataclass(frozen=True)
class ImageTraining:
    """Augmentation of a training image, resized to `height` x `width`, with probabilities."""

    height: int
    width: int
    crop: float = 0.5
    flip: float = 0.5
    erase: float = 0.5

    def frames(self, count: int, sample: SampleRandom) -> list[int]:
        """Choose the record's only image."""
        return [0]

    def pixels(
        self, pictures: Sequence[Picture], sample: SampleRandom
    ) -> tuple[Pixels, Box | None]:
        """Augment an image to (H, W, 3) uint8, and draw the rectangle to erase."""
        resized = resize(pictures[0], self.height, self.width)
        cropped = as_pixels(random_crop(resized, self.crop, sample.rng))
        flip = should_flip_image(self.flip, sample.flip_generator)
        box = random_box(self.height, self.width, self.erase, sample.rng)
        return flipped(cropped) if flip else cropped, box

    def __call__(self, pictures: Sequence[Picture], sample: SampleRandom) -> Tensor:
        """Augment an image to (3, H, W) float32."""
        return prepared(*self.pixels(pictures, sample))


@dataclass(frozen=True)
class Evaluation:
    """Resizes an image, or with `video` a clip's frames, to `height` x `width` for evaluation."""

    height: int
    width: int
    video: bool = False

    def pixels(self, pictures: Sequence[Picture]) -> Pixels:
        """Resize an image to (H, W, 3) uint8, or a clip to (T, H, W, 3)."""
        if self.video:
            return np.stack([as_pixels(self.resize(picture)) for picture in pictures])
        return as_pixels(self.resize(pictures[0]))

    def resize(self, picture: Picture) -> Picture:
        """Resize an image; again, it stays the same."""
        return resize(picture, self.height, self.width, "bicubic" if self.video else "bilinear")

    def __call__(self, pictures: Sequence[Picture]) -> Tensor:
        """Preprocess an image to (3, H, W) float32, or a clip to (3, T, H, W)."""
        return prepared(self.pixels(pictures))


@dataclass(frozen=True)
class ClipTraining:
    """Sampling and augmentation of a clip, with frames resized to `height` x `width`.

    Simple-CCReID never erases in clips, because of an inverted flag. Here `erase` above 0 does,
    with one rectangle per clip.
    The `mode` "tsn" takes one frame from each of `length` segments, "stride" every `stride`-th.
    """

    height: int
    width: int
    erase: float = 0.0
    mode: Literal["stride", "tsn"] = "stride"
    length: int = 8
    stride: int = 4

    def frames(self, count: int, sample: SampleRandom) -> list[int]:
        """Draw the frames of the clip from a tracklet's `count`."""
        rng, numpy_rng = sample.rng, sample.numpy_rng
        if self.mode == "tsn":
            return crop_by_segment(count, length=self.length, rng=rng, numpy_rng=numpy_rng)
        return crop_by_stride(
            count, length=self.length, stride=self.stride, rng=rng, numpy_rng=numpy_rng
        )

    def pixels(
        self, pictures: Sequence[Picture], sample: SampleRandom
    ) -> tuple[Pixels, Box | None]:
        """Augment a clip to (T, H, W, 3) uint8, and draw the rectangle to erase."""
        clip, flip = _clip(pictures, self.height, self.width), should_flip_clip(sample.rng)
        box = random_box(self.height, self.width, self.erase, sample.rng)
        return flipped(clip) if flip else clip, box

    def __call__(self, pictures: Sequence[Picture], sample: SampleRandom) -> Tensor:
        """Augment a clip to (3, T, H, W) float32."""
        return prepared(*self.pixels(pictures, sample))
