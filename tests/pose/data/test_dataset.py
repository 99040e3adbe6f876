"""Training and evaluation samples."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ffreid.errors import UserError
from ffreid.pose.data.batch import Sample, SkippedFrame, collate
from ffreid.pose.data.dataset import EvalSet, TrainSet
from ffreid.pose.data.ycb import YcbReader
from ffreid.pose.objects import ycb_objects
from tests.pose.data.makers_data import flat_scene, write_ycb_frame, write_ycb_lists

OBJECTS = ycb_objects()
REAL = ["data/0001/000001", "data/0001/000002"]
SYNTHETIC = ["data_syn/000001", "data_syn/000002"]
EMPTY = "data/0048/000009"


@pytest.fixture
def reader(tmp_path: Path) -> YcbReader:
    for seed, name in enumerate(REAL + SYNTHETIC):
        write_ycb_frame(tmp_path, name, **flat_scene(seed=seed))
    empty = flat_scene() | {"depth": np.zeros((64, 64), np.uint16)}
    write_ycb_frame(tmp_path, EMPTY, **empty)
    write_ycb_lists(tmp_path, REAL + SYNTHETIC, [REAL[0], EMPTY])
    return YcbReader(tmp_path, OBJECTS)


def train_set(reader: YcbReader, **options: Any) -> TrainSet:
    defaults: dict[str, Any] = {"points": 1024, "length": 6, "seed": 3}
    return TrainSet(reader, OBJECTS, **defaults | options)


def same(first: Sample, second: Sample) -> bool:
    return torch.equal(first.inputs.rgb, second.inputs.rgb) and torch.equal(
        first.inputs.features, second.inputs.features
    )


@pytest.mark.parametrize(
    ("seed", "epoch", "position"), [(3, 2, 5), (4, 2, 5), (3, 1, 5), (3, 2, 4)]
)
def test_a_sample_depends_on_seed_epoch_and_position(
    reader: YcbReader, seed: int, epoch: int, position: int
) -> None:
    data, other = train_set(reader), train_set(reader, seed=seed)
    other[4, 1]
    equal = (seed, epoch, position) == (3, 2, 5)
    assert same(data[2, 5], other[epoch, position]) is equal


def test_frames_with_several_objects_of_a_class_are_not_trained_on(
    reader: YcbReader, tmp_path: Path
) -> None:
    scene = flat_scene()
    twice: dict[str, Any] = scene | {
        "poses": np.repeat(scene["poses"], 2, axis=2),
        "cls_indexes": [1, 1],
    }
    write_ycb_frame(tmp_path, REAL[0], **twice)
    data = train_set(reader, augment=False)
    names = {data[0, position].gt.name for position in range(40)}
    assert names == {REAL[1], *SYNTHETIC}
    with pytest.raises(UserError, match=f"frame {REAL[0]}: it has several objects of a class"):
        train_set(reader, fixed=REAL)[0, 0]
    for name in (REAL[1], *SYNTHETIC):
        write_ycb_frame(tmp_path, name, **twice)
    with pytest.raises(UserError, match=r"100 training frames .* several objects") as raised:
        data[0, 0]
    assert "DATA.TRAIN_LIST" in raised.value.hint


def test_worker_processes_give_the_same_samples(reader: YcbReader) -> None:
    data = train_set(reader)
    keys = [(1, position) for position in range(4)]
    loader = DataLoader(
        data, batch_size=2, sampler=keys, num_workers=2, collate_fn=collate,
        multiprocessing_context="fork",
    )  # fmt: skip
    for number, batch in enumerate(loader):
        alone = collate([data[key] for key in keys[2 * number : 2 * number + 2]])
        assert torch.equal(batch.inputs.features, alone.inputs.features)


@pytest.mark.parametrize("augment", [False, True])
def test_images_are_changed_by_augmentation_alone(reader: YcbReader, augment: bool) -> None:
    reader.real_train_names = []
    sample = train_set(reader, augment=augment)[0, 0]
    assert sample.gt.name in SYNTHETIC
    stored = reader.read(sample.gt.name).rgb
    assert (sample.inputs.rgb.permute(1, 2, 0).numpy() != stored).any() == augment


def test_fixed_frames_are_repeated_unchanged_in_every_epoch(reader: YcbReader) -> None:
    data = train_set(reader, fixed=[REAL[1], SYNTHETIC[0]])
    assert [data[0, p].gt.name for p in range(4)] == [REAL[1], SYNTHETIC[0]] * 2
    assert same(data[0, 0], data[7, 2])
    written = reader.read(REAL[1]).rgb
    np.testing.assert_array_equal(data[0, 0].inputs.rgb.permute(1, 2, 0), written)


def test_frames_without_depth_are_replaced_by_others(reader: YcbReader) -> None:
    reader.real_train_names = [REAL[0], EMPTY]
    reader.synthetic_train_names = []
    names = {train_set(reader, augment=False)[0, p].gt.name for p in range(8)}
    assert names == {REAL[0]}
    reader.real_train_names = [EMPTY]
    with pytest.raises(UserError, match=rf"100 training frames in a row .*{EMPTY}: 0 pixels"):
        train_set(reader, augment=False)[0, 0]
    with pytest.raises(UserError, match=rf"{EMPTY}: 0 pixels have depth"):
        train_set(reader, fixed=[EMPTY])[0, 0]
    reader.train_names = []
    with pytest.raises(UserError, match="no training frames"):
        train_set(reader)


def test_evaluation_samples_are_in_the_order_of_the_list(reader: YcbReader) -> None:
    data = EvalSet(reader, OBJECTS, names=reader.test_names, points=1024, seed=0)
    items = [data[index] for index in range(len(data))]
    assert [item.gt.name for item in items] == reader.test_names
    assert [item.gt.index for item in items] == [0, 1]
    assert isinstance(items[0], Sample)
    assert isinstance(items[1], SkippedFrame)


def test_images_can_be_downscaled(reader: YcbReader) -> None:
    data = EvalSet(reader, OBJECTS, names=REAL, points=1024, seed=0, downscale=2)
    sample = data[0]
    assert isinstance(sample, Sample)
    assert sample.inputs.rgb.shape == (3, 32, 32)
    full = reader.read(REAL[0]).intrinsics
    np.testing.assert_allclose(sample.gt.intrinsics[:2], full[:2] / 2)


@pytest.mark.parametrize("synthetic", [True, False])
def test_linemod_colour_jitter_is_for_real_frames_only(
    reader: YcbReader, synthetic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    jitter = Mock(side_effect=lambda rgb, rng: rgb)
    monkeypatch.setattr("ffreid.pose.data.dataset.colour_jitter", jitter)
    monkeypatch.setattr(YcbReader, "policy", "linemod")
    frame = replace(reader.read(REAL[0]), synthetic=synthetic)
    monkeypatch.setattr(YcbReader, "read", lambda reader, name: frame)
    train_set(reader)[0, 0]
    assert jitter.called is not synthetic
