"""From pictures to tensors; a few recorded values for a clone without the recordings."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ffreid.reid.data.transforms import (
    ERASED,
    ClipEvaluation,
    ClipTraining,
    ImageEvaluation,
    ImageTraining,
    normalised,
    random_crop,
    random_erasing,
    sample_random,
    should_flip_clip,
    should_flip_image,
)

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def picture(seed: int = 0, *, height: int = 30, width: int = 16) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def plain(image: Image.Image, height: int, width: int, how: Image.Resampling) -> Tensor:
    """Resize and normalise in torch."""
    pixels = torch.from_numpy(np.array(image.resize((width, height), how)))
    return (pixels.permute(2, 0, 1).float() / 255 - MEAN) / DEVIATION


def erased(rectangle: Tensor) -> list[list[int]]:
    """Half-open rows and columns where a constant-7 picture has changed."""
    changed = (rectangle != 7).nonzero()
    return [[int(c.min()), int(c.max()) + 1] for c in changed.unbind(1)]


def test_a_picture_is_resized_bilinearly_and_normalised() -> None:
    found = ImageEvaluation(24, 12)([picture()])
    assert torch.equal(found, plain(picture(), 24, 12, Image.Resampling.BILINEAR))


def test_a_clip_is_resized_bicubically_with_frames_second() -> None:
    frames = [picture(0), picture(1)]
    found = ClipEvaluation(24, 12)(frames)
    expected = [plain(frame, 24, 12, Image.Resampling.BICUBIC) for frame in frames]
    assert torch.equal(found, torch.stack(expected, 1))


def test_without_any_chance_training_pictures_are_those_of_evaluation() -> None:
    prepare = ImageTraining(24, 12, crop=0, flip=0, erase=0)
    found = prepare([picture()], sample_random(0))
    assert torch.equal(found, ImageEvaluation(24, 12)([picture()]))


def test_a_sure_flip_mirrors() -> None:
    prepare = ImageTraining(24, 12, crop=0, flip=1, erase=0)
    found = prepare([picture()], sample_random(0))
    assert torch.equal(found, ImageEvaluation(24, 12)([picture()]).flip(-1))


def test_a_crop_keeps_the_size_and_shifts_the_enlarged_picture() -> None:
    # Recorded for a picture of 21 x 37: enlarged to 24 x 42, cut at (3, 4).
    raw = picture(height=37, width=21)
    found = random_crop(raw, 1.0, random.Random(1))
    larger = raw.resize((24, 42), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(larger)[4:41, 3:24])


@pytest.mark.parametrize(
    ("seed", "rows", "columns"),
    [(0, [16, 48], [8, 28]), (1, [8, 51], [3, 19]), (4, [9, 22], [2, 11])],
)
def test_erased_rectangles_are_the_recorded_ones(
    seed: int, rows: list[int], columns: list[int]
) -> None:
    pixels = torch.full((3, 64, 32), 7.0)
    random_erasing(pixels, 1.0, random.Random(seed))
    assert erased(pixels[0]) == [rows, columns]
    assert pixels[:, rows[0], columns[0]].tolist() == pytest.approx(ERASED)


def test_a_clip_loses_the_rectangle_that_a_picture_would_in_every_frame() -> None:
    clip, image = torch.full((3, 2, 64, 32), 7.0), torch.full((3, 64, 32), 7.0)
    random_erasing(clip, 1.0, random.Random(3))
    random_erasing(image, 1.0, random.Random(3))
    assert torch.equal(clip, image[:, None].expand_as(clip))


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_erasing_happens_as_often_as_asked(probability: float) -> None:
    rng, hits = random.Random(0), 0
    for _ in range(400):
        pixels = torch.full((3, 16, 8), 7.0)
        random_erasing(pixels, probability, rng)
        hits += bool((pixels != 7).any())
    assert hits / 400 == pytest.approx(probability, abs=0.08)


def test_training_clips_are_erased_where_asked_for_and_never_by_default() -> None:
    frames = [picture(0), picture(0)]
    sure, never = ClipTraining(24, 12, erase=1.0), ClipTraining(24, 12)
    kept = never(frames, sample_random(5))
    lost = sure(frames, sample_random(5))
    different = (kept != lost).any(0)
    assert different.any()
    assert torch.equal(different[0], different[1])
    whole = ClipEvaluation(24, 12)(frames)
    assert any(torch.equal(kept, choice) for choice in (whole, whole.flip(-1)))


@pytest.mark.parametrize(("seed", "flips"), list(enumerate([True, False, False, True])))
def test_pictures_are_mirrored_as_recorded(seed: int, flips: bool) -> None:
    assert should_flip_image(0.5, torch.Generator().manual_seed(seed)) is flips


@pytest.mark.parametrize(("seed", "flips"), list(enumerate([False, True, False, True, True])))
def test_clips_are_mirrored_as_recorded(seed: int, flips: bool) -> None:
    assert should_flip_clip(random.Random(seed)) is flips


def test_all_frames_of_a_clip_are_mirrored_together() -> None:
    frames = [picture(seed) for seed in range(3)]
    whole = ClipEvaluation(24, 12)(frames)
    made = [ClipTraining(24, 12)(frames, sample_random(seed)) for seed in range(12)]
    mirrored = [torch.equal(clip, whole.flip(-1)) for clip in made]
    unchanged = [torch.equal(clip, whole) for clip in made]
    assert all(a != b for a, b in zip(mirrored, unchanged, strict=True))
    assert any(mirrored)
    assert any(unchanged)


@pytest.mark.parametrize("mode", ["stride", "tsn"])
def test_a_clip_has_as_many_frames_as_asked_for(mode: str) -> None:
    prepare = ClipTraining(24, 12, mode=mode, length=4, stride=2)  # type: ignore[arg-type]
    frames = prepare.frames(30, sample_random(0))
    assert len(frames) == 4
    assert (np.diff(frames).tolist() == [2, 2, 2]) is (mode == "stride")


def test_normalised_pictures_are_contiguous_and_independent() -> None:
    pixels = np.asarray(picture())
    found = normalised(pixels, flip=True)
    assert found.is_contiguous()
    before = pixels.copy()
    found.zero_()
    np.testing.assert_array_equal(pixels, before)


def test_draws_depend_on_all_their_numbers() -> None:
    def first(*numpy_rng: int) -> tuple[float, float, float]:
        made = sample_random(*numpy_rng)
        flip = float(torch.rand(1, generator=made.flip_generator))
        return made.rng.random(), made.numpy_rng.random_sample(), flip

    assert first(1, 2, 3) == first(1, 2, 3)
    others = [first(*n) for n in [(1, 2, 3), (0, 2, 3), (1, 0, 3), (1, 2, 0), (2, 1, 3)]]
    assert all(len(set(column)) == len(others) for column in zip(*others, strict=True))
