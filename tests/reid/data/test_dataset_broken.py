"""Missing and damaged files in training and evaluation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ffreid.engine.loading import stream
from ffreid.errors import UserError
from ffreid.reid.data.batch import EvalSample, UnreadableRecord
from tests.reid.data.synthetic_records import (
    CLIPS,
    IMAGES,
    NOT_AUGMENTED,
    Records,
    eval_images,
    eval_set,
    load_epoch,
    position_of,
    train_set,
    truncate,
)


@pytest.mark.parametrize("make", [train_set, eval_set])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_an_error(
    images: Records, tmp_path: Path, make: Any, workers: int
) -> None:
    truncate(tmp_path / "1/2.png")
    data = make(images, tmp_path)
    keys: Any = [[(0, position_of(data, 6))]] if make is train_set else [[0, 1], [6, 7]]
    with pytest.raises(UserError, match=rf"cannot read {tmp_path}/1/2\.png: .") as error:
        list(stream(data, keys, lambda items: items, workers=workers))
    assert "DATA.SKIP_BROKEN True" in error.value.hint


def test_a_missing_an_empty_and_a_huge_image_are_errors(
    images: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1/2.png").unlink()
    (tmp_path / "1/3.png").write_bytes(b"")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    data = eval_set(images, tmp_path)
    for index, message in (
        (6, rf"no image {tmp_path}/1/2\.png"),
        (7, rf"cannot read {tmp_path}/1/3\.png"),
        (0, rf"cannot read {tmp_path}/0/0\.png: .*size"),
    ):
        with pytest.raises(UserError, match=message):
            data[index]


def test_skipping_depends_on_the_key_alone_and_keeps_the_other_samples(
    images: Records, tmp_path: Path
) -> None:
    before = load_epoch(train_set(images, tmp_path))
    truncate(tmp_path / "1/2.png")
    first, second = (train_set(images, tmp_path, skip_broken=True) for _ in range(2))
    after = load_epoch(first)
    same = [torch.equal(a.images, b.images) for a, b in zip(before, after, strict=True)]
    assert same == [not sample.broken for sample in after]
    assert same.count(False) == 1
    position = position_of(second, 6)
    load_epoch(second, 1)
    assert torch.equal(after[position].images, second[0, position].images)


def test_several_broken_images_of_an_identity(images: Records, tmp_path: Path) -> None:
    names = [f"1/{number}.png" for number in range(IMAGES)]
    for name in names[:-1]:
        truncate(tmp_path / name)
    data = train_set(images, tmp_path, prepare=NOT_AUGMENTED, skip_broken=True)
    last = eval_images(eval_set(images, tmp_path), 7)
    for index, name in zip((4, 5, 6), names[:-1], strict=True):
        sample = data[0, position_of(data, index)]
        assert sample.broken[0] == name
        assert torch.equal(sample.images, last)
    truncate(tmp_path / names[-1])
    with pytest.raises(UserError, match=r"any of 4 images of training identity 1: .*1/"):
        data[0, position_of(data, 6)]


def test_a_clip_with_a_broken_frame_is_replaced_by_another_clip(
    tracklets: Records, tmp_path: Path
) -> None:
    for record in tracklets:
        truncate(tmp_path / record.frames[0])
    data = train_set(tracklets, tmp_path, prepare=CLIPS, skip_broken=True)
    samples = [sample for epoch in range(4) for sample in load_epoch(data, epoch)]
    replaced = [sample for sample in samples if sample.broken]
    assert 0 < len(replaced) < len(samples)
    for sample in replaced:
        assert sample.broken == (tracklets[sample.identity].frames[0],)
        assert sample.images.shape == (3, 2, 16, 8)
    for record in tracklets:
        for name in record.frames[1:]:
            truncate(tmp_path / name)
    with pytest.raises(UserError, match=r"any of \d images of training identity"):
        data[0, 0]


def test_evaluation_returns_broken_images_with_the_reason(images: Records, tmp_path: Path) -> None:
    truncate(tmp_path / "1/2.png")
    data = eval_set(images, tmp_path, skip_broken=True)
    item = data[6]
    assert isinstance(item, UnreadableRecord)
    assert (item.index, item.path) == (6, "1/2.png")
    assert "cannot read" in item.reason
    assert isinstance(data[5], EvalSample)
