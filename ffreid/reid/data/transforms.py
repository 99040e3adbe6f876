"""From pictures to what the network reads, exactly as recorded from the original.

Pictures of re-identification are resized bilinearly, frames of tracklets bicubically, and both
normalised by ImageNet's statistics. Order and streams of the draws are the original's.
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

from ffreid.errors import UserError
from ffreid.reid.data.clips import crop_by_segment, crop_by_stride

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
# CIFAR's means, written over already normalised values: what the published models have seen.
ERASED = (0.4914, 0.4822, 0.4465)


@dataclass
class SampleRandom:
    """The generators of one sample's augmentation.

    Attributes:
        chance: crop, erasing and clips; the flip of a clip.
        flips: the flip of a picture.
        seed: of `numpy_rng`.
    """

    rng: random.Random
    flip_generator: torch.Generator
    seed: int

    @cached_property
    def numpy_rng(self) -> np.random.RandomState:
        """Numpy's legacy stream for clips of short tracklets; others need not wait for it."""
        return np.random.RandomState(self.seed)


def sample_random(*seeds: int) -> SampleRandom:
    """Give generators that depend on `seeds` (each 0 or more) only."""
    first, second, third = np.random.SeedSequence(seeds).generate_state(3).tolist()
    return SampleRandom(random.Random(first), torch.Generator().manual_seed(second), third)


def random_crop(picture: Image.Image, probability: float, rng: random.Random) -> Image.Image:
    """Enlarge a picture by an eighth and cut its size from that, or leave it alone."""
    if rng.uniform(0, 1) >= probability:
        return picture
    width, height = picture.size
    larger = round(width * 1.125), round(height * 1.125)
    enlarged = picture.resize(larger, Image.Resampling.BILINEAR)
    left = round(rng.uniform(0, larger[0] - width))
    top = round(rng.uniform(0, larger[1] - height))
    return enlarged.crop((left, top, left + width, top + height))


def random_erasing(pictures: Tensor, probability: float, rng: random.Random) -> None:
    """Fill a random rectangle with a colour, in place (Zhong et al. 2020).

    Args:
        pictures: (3, H, W), or (3, T, H, W) whose frames all lose the same rectangle.
        probability: of erasing at all.
        chance: draws whether, how large and where.
    """
    if rng.uniform(0, 1) >= probability:
        return
    rows, columns = pictures.shape[-2:]
    for _ in range(100):
        area = rng.uniform(0.02, 0.4) * (rows * columns)
        ratio = rng.uniform(0.3, 1 / 0.3)
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width < columns and height < rows:
            top = rng.randint(0, rows - height)
            left = rng.randint(0, columns - width)
            for channel, value in zip(pictures, ERASED, strict=True):
                channel[..., top : top + height, left : left + width] = value
            return


def flips_picture(probability: float, flip_generator: torch.Generator) -> bool:
    """Draw whether a picture is mirrored."""
    return bool(torch.rand(1, generator=flip_generator) < probability)


def flips_clip(rng: random.Random) -> bool:
    """Draw whether all frames of a clip are mirrored: half of the clips are."""
    return rng.random() < 0.5


def normalised(pictures: npt.NDArray[np.uint8], *, flip: bool = False) -> Tensor:
    """Put channels first and normalise: (…, H, W, 3) uint8 to (3, …, H, W) float32."""
    if flip:
        pictures = pictures[..., ::-1, :]
    channels = np.ascontiguousarray(np.moveaxis(pictures, -1, 0))
    shape = (3, *[1] * (channels.ndim - 1))
    # numpy, as torch would start threads for this in a process that loads its own data.
    result = np.divide(channels, np.float32(255), dtype=np.float32)
    result -= MEAN.reshape(shape)
    result /= DEVIATION.reshape(shape)
    return torch.from_numpy(result)


def _clip(
    pictures: Sequence[Image.Image], height: int, width: int, *, flip: bool = False
) -> Tensor:
    sized = [picture.resize((width, height), Image.Resampling.BICUBIC) for picture in pictures]
    return normalised(np.stack([np.asarray(picture) for picture in sized]), flip=flip)


@dataclass(frozen=True)
class ImageTraining:
    """Augments a training picture.

    Attributes:
        height: rows it is brought to.
        width: columns.
        crop: probability of a random crop (AUG.RC_PROB).
        flip: of mirroring (AUG.RF_PROB).
        erase: of random erasing (AUG.RE_PROB).
    """

    height: int
    width: int
    crop: float = 0.5
    flip: float = 0.5
    erase: float = 0.5

    def frames(self, count: int, sample: SampleRandom) -> list[int]:
        """Say which of a record's `count` pictures are wanted: its only one."""
        return [0]

    def __call__(self, pictures: Sequence[Image.Image], sample: SampleRandom) -> Tensor:
        """Give the augmented picture, (3, H, W) float32."""
        sized = pictures[0].resize((self.width, self.height), Image.Resampling.BILINEAR)
        cropped = random_crop(sized, self.crop, sample.rng)
        flip = flips_picture(self.flip, sample.flip_generator)
        result = normalised(np.asarray(cropped), flip=flip)
        random_erasing(result, self.erase, sample.rng)
        return result


@dataclass(frozen=True)
class ImageEvaluation:
    """Brings a picture to `height` x `width` for evaluation."""

    height: int
    width: int

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Give the picture, (3, H, W) float32."""
        sized = pictures[0].resize((self.width, self.height), Image.Resampling.BILINEAR)
        return normalised(np.asarray(sized))


@dataclass(frozen=True)
class ClipTraining:
    """Draws and augments a clip of a training tracklet.

    The original means to erase at random too, but an inverted flag keeps it from ever doing so.
    Here `erase` above 0 does: one rectangle for the whole clip.

    Attributes:
        height: rows frames are brought to.
        width: columns.
        erase: probability of random erasing (AUG.RE_PROB).
        mode: "stride" or "tsn", a frame of each segment (AUG.TEMPORAL_SAMPLING_MODE).
        length: frames a clip (AUG.SEQ_LEN).
        stride: from frame to frame (AUG.SAMPLING_STRIDE).

    Raises:
        UserError: no such mode.
    """

    height: int
    width: int
    erase: float = 0.0
    mode: Literal["stride", "tsn"] = "stride"
    length: int = 8
    stride: int = 4

    def __post_init__(self) -> None:
        if self.mode not in ("stride", "tsn"):
            raise UserError(
                f"AUG.TEMPORAL_SAMPLING_MODE {self.mode!r} is unknown", "set it to stride or tsn"
            )

    def frames(self, count: int, sample: SampleRandom) -> list[int]:
        """Draw which of a tracklet's `count` frames make the clip."""
        rng, numpy_rng = sample.rng, sample.numpy_rng
        if self.mode == "tsn":
            return crop_by_segment(count, length=self.length, rng=rng, numpy_rng=numpy_rng)
        return crop_by_stride(
            count, length=self.length, stride=self.stride, rng=rng, numpy_rng=numpy_rng
        )

    def __call__(self, pictures: Sequence[Image.Image], sample: SampleRandom) -> Tensor:
        """Give the augmented clip, (3, T, H, W) float32."""
        result = _clip(pictures, self.height, self.width, flip=flips_clip(sample.rng))
        random_erasing(result, self.erase, sample.rng)
        return result


@dataclass(frozen=True)
class ClipEvaluation:
    """Brings a clip's frames to `height` x `width` for evaluation."""

    height: int
    width: int

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Give the clip, (3, T, H, W) float32."""
        return _clip(pictures, self.height, self.width)
