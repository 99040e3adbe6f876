"""Samples as the DataLoader asks for them."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ffreid.engine.loading import StepKeys, evaluation_stream, stream
from ffreid.engine.task import Plan
from ffreid.reid.data.batch import EvalBatch, EvalSample, ReidBatch, collate, collate_for_evaluation
from ffreid.reid.data.clips import clips_of_tracklets
from ffreid.reid.data.records import Record
from ffreid.reid.data.transforms import ClipEvaluation, ImageTraining
from tests.reid.data.synthetic_records import (
    CLIPS,
    FRAMES,
    IMAGES,
    PLAIN,
    eval_set,
    train_set,
    whole_epoch,
)


def test_a_sample_follows_from_seed_epoch_and_position_alone(
    pictures: list[Record], tmp_path: Path
) -> None:
    first, second = train_set(pictures, tmp_path), train_set(pictures, tmp_path)
    second[4, 1]
    assert torch.equal(first[2, 5].images, second[2, 5].images)


@pytest.mark.parametrize(("seed", "epoch", "position"), [(5, 0, 3), (4, 1, 3), (4, 0, 2)])
def test_another_seed_epoch_or_position_augments_otherwise(
    pictures: list[Record], tmp_path: Path, seed: int, epoch: int, position: int
) -> None:
    # One picture for all, so that only the augmentation can differ.
    same = [Record(pictures[0].frames, 0, 0, 0)] * 12
    prepare = ImageTraining(24, 12, crop=1, erase=1)
    known = train_set(same, tmp_path, prepare=prepare)[0, 3]
    other = train_set(same, tmp_path, prepare=prepare, seed=seed)[epoch, position]
    assert not torch.equal(known.images, other.images)


def test_positions_show_the_samplers_pictures_with_their_labels(
    pictures: list[Record], tmp_path: Path
) -> None:
    data = train_set(pictures, tmp_path, prepare=PLAIN)
    shown = eval_set(pictures, tmp_path)
    for position, sample in enumerate(whole_epoch(data)):
        index = data.sampler.index(0, position)
        item = shown[index]
        assert isinstance(item, EvalSample)
        assert torch.equal(sample.images, item.images)
        record = pictures[index]
        labels = (sample.identity, sample.camera, sample.clothes)
        assert labels == (record.identity, record.camera, record.clothes)
        assert sample.broken == ()


@pytest.mark.parametrize("kind", ["pictures", "tracklets"])
def test_any_number_of_workers_gives_the_very_same_batches(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    prepare = IMAGES if kind == "pictures" else CLIPS
    data = train_set(request.getfixturevalue(kind), tmp_path, prepare=prepare)

    def batches(workers: int) -> list[ReidBatch]:
        steps = data.sampler.steps_per_epoch
        plan = Plan(batch=2, steps_per_epoch=steps, total=steps + 2, workers=workers)
        keys = StepKeys(start=1, total=steps + 2, plan=plan, rank=0, size=1)
        return list(stream(data, keys, collate, workers=workers))

    alone, shared = batches(0), batches(2)
    assert len(alone) == len(shared) == data.sampler.steps_per_epoch + 1
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.identities, other.identities)
        assert torch.equal(one.clothes, other.clothes)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_in_any_number_of_workers_goes_through_the_records(
    pictures: list[Record], tmp_path: Path, workers: int
) -> None:
    data = eval_set(pictures, tmp_path)
    batches: list[EvalBatch] = list(
        evaluation_stream(data, collate_for_evaluation, batch=5, workers=workers, rank=0, size=1)
    )
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(len(pictures)))
    first = data[0]
    assert isinstance(first, EvalSample)
    assert torch.equal(batches[0].images[0], first.images)


def test_global_generators_are_left_alone(tracklets: list[Record], tmp_path: Path) -> None:
    python, legacy, state = (
        random.getstate(),
        np.random.get_state(legacy=False)["state"]["key"],
        torch.get_rng_state(),
    )
    train_set(tracklets, tmp_path, prepare=CLIPS)[0, 0]
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], legacy)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_training_clip_has_the_drawn_frames_in_order(
    tracklets: list[Record], tmp_path: Path
) -> None:
    data = train_set(tracklets, tmp_path, prepare=CLIPS)
    sample = data[0, 0]
    assert sample.images.shape == (3, 2, 16, 8)
    record = tracklets[data.sampler.index(0, 0)]
    item = eval_set([record], tmp_path, prepare=ClipEvaluation(16, 8))[0]
    assert isinstance(item, EvalSample)
    both = (item.images, item.images.flip(-1))
    assert any(
        torch.equal(sample.images, whole[:, [begin, begin + 2]])
        for whole in both
        for begin in range(FRAMES - 2)
    )


def test_a_clip_that_repeats_frames_repeats_their_pictures(
    tracklets: list[Record], tmp_path: Path
) -> None:
    clips, _ = clips_of_tracklets(tracklets[:1], 4, 1)
    item = eval_set(list(clips), tmp_path, prepare=ClipEvaluation(16, 8))[1]
    assert isinstance(item, EvalSample)
    assert item.images.shape == (3, 4, 16, 8)
    assert torch.equal(item.images[:, :2], item.images[:, 2:])


def test_grey_and_transparent_pictures_are_read_as_rgb(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P"):
        Image.new(mode, (10, 20), 255 if mode != "RGBA" else "white").save(tmp_path / f"{mode}.png")
    records = [Record((f"{mode}.png",), 0, 0, 0) for mode in ("L", "RGBA", "P")]
    data = eval_set(records, tmp_path)
    items = [data[index] for index in range(3)]
    assert {item.images.shape for item in items if isinstance(item, EvalSample)} == {(3, 24, 12)}
