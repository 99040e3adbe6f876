"""Samples of training and evaluation as the DataLoader requests them."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ffreid.engine.loading import StepKeys, stream
from ffreid.engine.task import Plan
from ffreid.reid.data.batch import ReidBatch, collate
from ffreid.reid.data.records import Record
from ffreid.reid.data.transforms import ImageTraining
from tests.reid.data.synthetic_records import (
    AUGMENTED,
    CLIPS,
    NOT_AUGMENTED,
    Records,
    eval_images,
    eval_set,
    load_epoch,
    train_set,
)


def test_a_sample_depends_on_seed_epoch_and_position_alone(images: Records, tmp_path: Path) -> None:
    first, second = train_set(images, tmp_path), train_set(images, tmp_path)
    second[4, 1]
    assert torch.equal(first[2, 5].images, second[2, 5].images)
    # One image for all, so that only the augmentation can differ.
    records = [Record(images[0].frames, 0, 0, 0)] * 12
    prepare = ImageTraining(24, 12, crop=1, erase=1)
    expected = train_set(records, tmp_path, prepare=prepare)[0, 3]
    for seed, epoch, position in ((5, 0, 3), (4, 1, 3), (4, 0, 2)):
        other = train_set(records, tmp_path, prepare=prepare, seed=seed)[epoch, position]
        assert not torch.equal(expected.images, other.images)


def test_samples_have_the_images_and_labels_of_their_records(
    images: Records, tmp_path: Path
) -> None:
    data = train_set(images, tmp_path, prepare=NOT_AUGMENTED)
    evaluation = eval_set(images, tmp_path)
    for position, sample in enumerate(load_epoch(data)):
        index = data.sampler.index(0, position)
        assert torch.equal(sample.images, eval_images(evaluation, index))
        record = images[index]
        assert (sample.identity, sample.clothes) == (record.identity, record.clothes)
        assert sample.broken == ()


@pytest.mark.parametrize("kind", ["images", "tracklets"])
def test_batches_do_not_depend_on_the_number_of_workers(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    prepare = AUGMENTED if kind == "images" else CLIPS
    data = train_set(request.getfixturevalue(kind), tmp_path, prepare=prepare)

    def batches(workers: int) -> list[ReidBatch]:
        steps = data.sampler.steps_per_epoch
        plan = Plan(batch=2, steps_per_epoch=steps, total=steps + 2, workers=workers)
        keys = StepKeys(start=1, total=steps + 2, plan=plan, rank=0, size=1)
        return list(stream(data, keys, collate, workers=workers))

    assert len(batches(0)) == data.sampler.steps_per_epoch + 1
    for one, other in zip(batches(0), batches(2), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.identities, other.identities)
        assert torch.equal(one.clothes, other.clothes)


def test_global_generators_are_not_used(tracklets: Records, tmp_path: Path) -> None:
    def states() -> tuple[object, ...]:
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()

    before = states()
    train_set(tracklets, tmp_path, prepare=CLIPS)[0, 0]
    assert states() == before


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_grey_and_transparent_images_are_read_as_rgb(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (10, 20), 255 if mode != "RGBA" else "white").save(tmp_path / "a.png")
    data = eval_set([Record(("a.png",), 0, 0, 0)], tmp_path)
    assert eval_images(data, 0).shape == (3, 24, 12)
