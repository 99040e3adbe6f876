"""From images to tensors, also recorded values for a clone without the recordings."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from ffreid.reid.data.transforms import (
    ERASED,
    ClipTraining,
    Evaluation,
    ImageTraining,
    random_crop,
    random_erasing,
    sample_random,
    should_flip_clip,
    should_flip_image,
)


def noise(seed: int = 0, *, height: int = 30, width: int = 16) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("flip", [0, 1])
def test_probabilities_of_0_and_1(flip: int) -> None:
    image = ImageTraining(24, 12, crop=0, flip=flip, erase=0)([noise()], sample_random(0))
    expected = Evaluation(24, 12)([noise()])
    assert torch.equal(image, expected.flip(-1) if flip else expected)


def test_a_crop_is_cut_from_the_enlarged_image() -> None:
    # Recorded for an image of 21 x 37: enlarged to 24 x 42, cut at (3, 4).
    image = noise(height=37, width=21)
    enlarged = image.resize((24, 42), Image.Resampling.BILINEAR)
    crop = random_crop(image, 1.0, random.Random(1))
    np.testing.assert_array_equal(np.asarray(crop), np.asarray(enlarged)[4:41, 3:24])


@pytest.mark.parametrize(
    ("seed", "rows", "columns"),
    [(0, (16, 48), (8, 28)), (1, (8, 51), (3, 19)), (4, (9, 22), (2, 11))],
)
def test_erased_rectangles_equal_the_recorded(
    seed: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    image, clip = torch.full((3, 64, 32), 7.0), torch.full((3, 2, 64, 32), 7.0)
    expected = image.clone()
    expected[:, slice(*rows), slice(*columns)] = torch.tensor(ERASED)[:, None, None]
    random_erasing(image, 1.0, random.Random(seed))
    assert torch.equal(image, expected)
    random_erasing(clip, 1.0, random.Random(seed))
    assert torch.equal(clip, expected[:, None].expand_as(clip))


def test_training_clips_are_mirrored_in_all_frames_and_erased_on_request() -> None:
    frames = [noise(0), noise(0)]
    clip = Evaluation(24, 12, video=True)(frames)
    mirrored = set()
    for seed in range(12):
        augmented = ClipTraining(24, 12)(frames, sample_random(seed))
        is_mirrored = torch.equal(augmented, clip.flip(-1))
        assert is_mirrored or torch.equal(augmented, clip)
        mirrored.add(is_mirrored)
        erased = ClipTraining(24, 12, erase=1.0)(frames, sample_random(seed)) != augmented
        assert erased.any()
        assert torch.equal(erased[:, 0], erased[:, 1])
    assert mirrored == {True, False}


def test_flips_equal_the_recorded() -> None:
    images = [should_flip_image(0.5, torch.Generator().manual_seed(seed)) for seed in range(4)]
    assert images == [True, False, False, True]
    clips = [should_flip_clip(random.Random(seed)) for seed in range(5)]
    assert clips == [False, True, False, True, True]


def test_random_numbers_of_a_sample_depend_on_all_of_its_numbers() -> None:
    def first(*numbers: int) -> tuple[float, float, float]:
        sample = sample_random(*numbers)
        flip = float(torch.rand(1, generator=sample.flip_generator))
        return sample.rng.random(), sample.numpy_rng.random_sample(), flip

    assert first(1, 2, 3) == first(1, 2, 3)
    others = [first(*n) for n in [(1, 2, 3), (0, 2, 3), (1, 0, 3), (1, 2, 0), (2, 1, 3)]]
    assert all(len(set(column)) == len(others) for column in zip(*others, strict=True))
