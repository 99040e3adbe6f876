"""Augmentation and preprocessing of images and clips, exactly as in Simple-CCReID.

Images are resized bilinearly, frames of tracklets bicubically; both are normalised with ImageNet's
statistics. Random numbers are drawn in the same order.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ffreid.reid.data.clips import crop_by_segment, crop_by_stride

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


def random_crop(image: Image.Image, probability: float, rng: random.Random) -> Image.Image:
    """Enlarge an image by an eighth and crop it to its size, or leave it unchanged."""
    if rng.uniform(0, 1) >= probability:
        return image
    width, height = image.size
    larger = round(width * 1.125), round(height * 1.125)
    enlarged = image.resize(larger, Image.Resampling.BILINEAR)
    left = round(rng.uniform(0, larger[0] - width))
    top = round(rng.uniform(0, larger[1] - height))
    return enlarged.crop((left, top, left + width, top + height))


def random_erasing(images: Tensor, probability: float, rng: random.Random) -> None:
    """Fill a random rectangle with a colour, in place (Zhong et al. 2020).

    In clips (3, T, H, W) it is the same in all frames.
    """
    if rng.uniform(0, 1) >= probability:
        return
    rows, columns = images.shape[-2:]
    for _ in range(100):
        area = rng.uniform(0.02, 0.4) * (rows * columns)
        ratio = rng.uniform(0.3, 1 / 0.3)
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width < columns and height < rows:
            top = rng.randint(0, rows - height)
            left = rng.randint(0, columns - width)
            for channel, value in zip(images, ERASED, strict=True):
                channel[..., top : top + height, left : left + width] = value
            return


def should_flip_image(probability: float, flip_generator: torch.Generator) -> bool:
    """Draw whether to flip an image horizontally."""
    return bool(torch.rand(1, generator=flip_generator) < probability)


def should_flip_clip(rng: random.Random) -> bool:
    """Draw whether to flip all frames of a clip, with probability 0.5."""
    return rng.random() < 0.5


def normalised(images: npt.NDArray[np.uint8], *, flip: bool = False) -> Tensor:
    """Put channels first and normalise: (…, H, W, 3) uint8 to (3, …, H, W) float32."""
    if flip:
        images = images[..., ::-1, :]
    channels = np.ascontiguousarray(np.moveaxis(images, -1, 0))
    shape = (3, *[1] * (channels.ndim - 1))
    # numpy: torch would start threads in a process that loads its own data.
    result = np.divide(channels, np.float32(255), dtype=np.float32)
    result -= MEAN.reshape(shape)
    result /= DEVIATION.reshape(shape)
    return torch.from_numpy(result)


def _clip(images: Sequence[Image.Image], height: int, width: int, *, flip: bool = False) -> Tensor:
    resized = [image.resize((width, height), Image.Resampling.BICUBIC) for image in images]
    return normalised(np.stack([np.asarray(image) for image in resized]), flip=flip)


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

    def __call__(self, images: Sequence[Image.Image], sample: SampleRandom) -> Tensor:
        """Augment an image to (3, H, W) float32."""
        resized = images[0].resize((self.width, self.height), Image.Resampling.BILINEAR)
        cropped = random_crop(resized, self.crop, sample.rng)
        flip = should_flip_image(self.flip, sample.flip_generator)
        result = normalised(np.asarray(cropped), flip=flip)
        random_erasing(result, self.erase, sample.rng)
        return result


@dataclass(frozen=True)
class Evaluation:
    """Resizes an image, or with `video` a clip's frames, to `height` x `width` for evaluation."""

    height: int
    width: int
    video: bool = False

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """Preprocess an image to (3, H, W) float32, or a clip to (3, T, H, W)."""
        if self.video:
            return _clip(images, self.height, self.width)
        return normalised(np.asarray(self.resize(images[0])))

    def resize(self, image: Image.Image) -> Image.Image:
        """Resize an image; again, it stays the same."""
        method = Image.Resampling.BICUBIC if self.video else Image.Resampling.BILINEAR
        return image.resize((self.width, self.height), method)


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

    def __call__(self, images: Sequence[Image.Image], sample: SampleRandom) -> Tensor:
        """Augment a clip to (3, T, H, W) float32."""
        result = _clip(images, self.height, self.width, flip=should_flip_clip(sample.rng))
        random_erasing(result, self.erase, sample.rng)
        return result
