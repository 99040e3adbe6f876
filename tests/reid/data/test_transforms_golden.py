"""Transforms of images and clips against the recorded ones."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from ffreid.reid.data.batch import EvalSample
from ffreid.reid.data.dataset import EvalSet
from ffreid.reid.data.records import Record
from ffreid.reid.data.transforms import (
    ClipTraining,
    Evaluation,
    ImageTraining,
    SampleRandom,
    random_crop,
    random_erasing,
    should_flip_clip,
    should_flip_image,
)
from tests.golden import arrays, facts, recordings

pytestmark = pytest.mark.golden
TRANSFORMS = recordings("ccreid", "transforms.npz")
CONSTANT = 7.0


def seeded(seed: int) -> SampleRandom:
    return SampleRandom(random.Random(seed), torch.Generator().manual_seed(seed), seed)


def seed_of(facts: dict[str, Any], entry: dict[str, Any]) -> int:
    """The seed of an entry, which counts from the split's offset or from 0."""
    seed, offset = int(entry["seed"]), int(facts["seed_offset"])
    return seed if seed >= offset else seed + offset


def assert_close(actual: torch.Tensor, expected: npt.NDArray[Any], message: str = "") -> None:
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-6, err_msg=message)
    assert actual.dtype == torch.float32


@pytest.mark.parametrize("stem", TRANSFORMS)
def test_evaluation_images_and_frames(stem: str) -> None:
    data = arrays("ccreid", stem)
    image = Image.fromarray(data["raw"])
    assert_close(Evaluation(*data["img_test"].shape[1:])([image]), data["img_test"])
    height, width = data["vid_test"].shape[1:]
    clip = Evaluation(height, width, video=True)([image])
    assert_close(clip[:, 0], data["vid_test"])


@pytest.mark.parametrize("stem", TRANSFORMS)
def test_training_images(stem: str) -> None:
    data, recorded_facts = arrays("ccreid", stem), facts("ccreid", stem)
    stored = 0
    for entry in recorded_facts["img_train"]:
        sample = seeded(seed_of(recorded_facts, entry))
        height, width = entry["shape"][1:]
        actual = ImageTraining(height, width)([Image.fromarray(data["raw"])], sample)
        exact = actual.double().numpy()
        measured = [exact.mean(), exact.std(), exact.min(), exact.max(), *exact.mean((1, 2))]
        recorded = [entry[name] for name in ("mean", "std", "min", "max")] + entry["ch_mean"]
        np.testing.assert_allclose(measured, recorded, rtol=0, atol=1e-6)
        assert sample.rng.random() == entry["next_python_random"]
        if (key := f"img_train/seed{entry['seed']}") in data:
            assert_close(actual, data[key], key)
            stored += 1
    assert stored


@pytest.mark.parametrize("stem", TRANSFORMS)
def test_random_crops(stem: str) -> None:
    data, recorded_facts = arrays("ccreid", stem), facts("ccreid", stem)
    assert recorded_facts["random_croping"]
    for entry in recorded_facts["random_croping"]:
        raw = Image.fromarray(data["raw"])
        actual = random_crop(raw, 1.0, random.Random(seed_of(recorded_facts, entry)))
        np.testing.assert_array_equal(np.asarray(actual), data[f"crop/seed{entry['seed']}"])
        left, top = entry["x1y1"]
        larger = raw.resize(entry["resized_wh"], Image.Resampling.BILINEAR)
        box = (left, top, left + raw.width, top + raw.height)
        np.testing.assert_array_equal(np.asarray(actual), np.asarray(larger.crop(box)))


@pytest.mark.parametrize("stem", TRANSFORMS)
def test_random_erasing(stem: str) -> None:
    recorded_facts = facts("ccreid", stem)
    assert recorded_facts["random_erasing"]
    for entry in recorded_facts["random_erasing"]:
        actual = torch.full(recorded_facts["random_erasing_input"], CONSTANT)
        expected = actual.clone()
        random_erasing(actual, 1.0, random.Random(seed_of(recorded_facts, entry)))
        rows, columns = slice(*entry["rows"]), slice(*entry["cols"])
        expected[:, rows, columns] = torch.tensor(entry["values"])[:, None, None]
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("stem", TRANSFORMS)
def test_flips_of_images_and_clips(stem: str) -> None:
    recorded_facts = facts("ccreid", stem)
    expected = recorded_facts["hflip_p0.5"]
    assert expected
    seeds = range(recorded_facts["seed_offset"], recorded_facts["seed_offset"] + len(expected))
    flips = [should_flip_image(0.5, torch.Generator().manual_seed(seed)) for seed in seeds]
    assert flips == expected
    assert recorded_facts["vid_flip"]
    for entry in recorded_facts["vid_flip"]:
        assert should_flip_clip(random.Random(seed_of(recorded_facts, entry))) is entry["flipped"]


@pytest.mark.parametrize("stem", TRANSFORMS)
def test_a_mirrored_training_clip_is_the_mirrored_frame_resized(stem: str) -> None:
    data, recorded_facts = arrays("ccreid", stem), facts("ccreid", stem)
    height, width = data["vid_test"].shape[1:]
    train, evaluate = ClipTraining(height, width), Evaluation(height, width, video=True)
    raw = Image.fromarray(data["raw"])
    mirrored = raw.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    entries = recorded_facts["vid_flip"]
    assert any(entry["equals_flip_of_pil_before_resize_or_test"] for entry in entries)
    for entry in entries:
        if entry["equals_flip_of_pil_before_resize_or_test"]:
            actual = train([raw], seeded(seed_of(recorded_facts, entry)))
            expected = evaluate([mirrored if entry["flipped"] else raw])
            assert_close(actual, expected.numpy())


@pytest.mark.parametrize("stem", TRANSFORMS)
def test_a_clip_read_from_its_files(stem: str, tmp_path: Path) -> None:
    data = arrays("ccreid", stem)
    frames = sorted(key for key in data if key.startswith("video_frame_raw/"))
    assert frames
    names = tuple(f"{number}.png" for number in range(len(frames)))
    for key, name in zip(frames, names, strict=True):
        Image.fromarray(data[key]).save(tmp_path / name)
    expected = data["VideoDataset_clip"]
    height, width = expected.shape[-2:]
    prepare = Evaluation(height, width, video=True)
    item = EvalSet([Record(names, 0, 0, 0)], tmp_path, prepare=prepare, skip_broken=False)[0]
    assert isinstance(item, EvalSample)
    assert_close(item.images, expected)
