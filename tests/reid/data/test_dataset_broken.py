"""Missing and damaged pictures in training and evaluation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ffreid.engine.loading import stream
from ffreid.errors import UserError
from ffreid.reid.data.batch import EvalSample, UnreadableRecord
from ffreid.reid.data.clips import clips_of_tracklets
from ffreid.reid.data.records import Record
from ffreid.reid.data.transforms import ClipEvaluation, ClipTraining
from tests.reid.data.synthetic_records import (
    CLIPS,
    PICTURES,
    PLAIN,
    cut_short,
    eval_set,
    position_of,
    train_set,
    whole_epoch,
)


@pytest.mark.parametrize(("data_set", "workers"), [(train_set, 0), (eval_set, 0), (train_set, 1)])
def test_a_damaged_picture_is_an_error_that_names_it(
    pictures: list[Record], tmp_path: Path, data_set: Any, workers: int
) -> None:
    cut_short(tmp_path / "1/2.png")
    data = data_set(pictures, tmp_path)
    keys: Any = [[0, 1], [6, 7]]
    if data_set is train_set:
        keys = [[(0, position_of(data, 6))]]
    with pytest.raises(UserError, match=rf"cannot read {tmp_path}/1/2\.png: .") as error:
        list(stream(data, keys, lambda items: items, workers=workers))
    assert "DATA.SKIP_BROKEN True" in error.value.hint


def test_a_missing_picture_is_an_error_that_names_it(
    pictures: list[Record], tmp_path: Path
) -> None:
    (tmp_path / "1/2.png").unlink()
    with pytest.raises(UserError, match=rf"no image {tmp_path}/1/2\.png"):
        eval_set(pictures, tmp_path)[6]


def test_an_empty_file_is_an_error_that_names_it(pictures: list[Record], tmp_path: Path) -> None:
    (tmp_path / "1/2.png").write_bytes(b"")
    with pytest.raises(UserError, match=rf"cannot read {tmp_path}/1/2\.png"):
        eval_set(pictures, tmp_path)[6]


def test_a_picture_of_absurd_size_is_an_error_that_names_it(
    pictures: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(UserError, match=rf"cannot read {tmp_path}/0/0\.png: .*size"):
        eval_set(pictures, tmp_path)[0]


@pytest.mark.parametrize("prepare", [CLIPS, ClipTraining(16, 8, length=8)])
def test_a_frame_missing_inside_a_training_tracklet_is_an_error(
    tracklets: list[Record], tmp_path: Path, prepare: ClipTraining
) -> None:
    for record in tracklets:
        for name in record.frames[1:-1]:
            (tmp_path / name).unlink()
    data = train_set(tracklets, tmp_path, prepare=prepare)
    with pytest.raises(UserError, match=r"no image .*walk\d/0000\d\.png"):
        whole_epoch(data)


def test_a_frame_missing_inside_a_clip_is_an_error(tracklets: list[Record], tmp_path: Path) -> None:
    (tmp_path / "walk1/00002.png").unlink()
    data = eval_set(tracklets, tmp_path, prepare=ClipEvaluation(16, 8))
    with pytest.raises(UserError, match=r"no image .*walk1/00002\.png"):
        data[1]


def test_a_broken_picture_gives_way_to_another_of_its_identity(
    pictures: list[Record], tmp_path: Path
) -> None:
    cut_short(tmp_path / "1/2.png")
    data = train_set(pictures, tmp_path, prepare=PLAIN, skip_broken=True)
    sample = data[0, position_of(data, 6)]
    assert sample.broken == ("1/2.png",)
    assert sample.identity == 1
    shown = eval_set(pictures, tmp_path, skip_broken=True)
    others = [shown[index] for index in (4, 5, 7)]
    matches = [isinstance(o, EvalSample) and torch.equal(o.images, sample.images) for o in others]
    assert sum(matches) == 1
    record = pictures[(4, 5, 7)[matches.index(True)]]
    assert (sample.camera, sample.clothes) == (record.camera, record.clothes)


def test_the_picture_taken_instead_follows_from_the_key(
    pictures: list[Record], tmp_path: Path
) -> None:
    cut_short(tmp_path / "1/2.png")
    first, second = (train_set(pictures, tmp_path, skip_broken=True) for _ in range(2))
    key = (0, position_of(first, 6))
    whole_epoch(second, 1)
    assert torch.equal(first[key].images, second[key].images)


def test_skipping_leaves_whole_pictures_as_they_were(
    pictures: list[Record], tmp_path: Path
) -> None:
    before = whole_epoch(train_set(pictures, tmp_path))
    cut_short(tmp_path / "1/2.png")
    after = whole_epoch(train_set(pictures, tmp_path, skip_broken=True))
    same = [torch.equal(a.images, b.images) for a, b in zip(before, after, strict=True)]
    assert same == [not sample.broken for sample in after]
    assert same.count(False) == 1


def test_several_broken_pictures_are_all_named(pictures: list[Record], tmp_path: Path) -> None:
    for number in (0, 1, 2):
        cut_short(tmp_path / f"1/{number}.png")
    data = train_set(pictures, tmp_path, prepare=PLAIN, skip_broken=True)
    samples = [data[0, position_of(data, index)] for index in (4, 5, 6)]
    last = eval_set(pictures, tmp_path)[7]
    assert isinstance(last, EvalSample)
    for sample, name in zip(samples, ("1/0.png", "1/1.png", "1/2.png"), strict=True):
        assert sample.broken[0] == name
        assert set(sample.broken) <= {"1/0.png", "1/1.png", "1/2.png"}
        assert torch.equal(sample.images, last.images)


def test_an_identity_without_any_whole_picture_is_an_error(
    pictures: list[Record], tmp_path: Path
) -> None:
    for number in range(PICTURES):
        cut_short(tmp_path / f"1/{number}.png")
    data = train_set(pictures, tmp_path, skip_broken=True)
    with pytest.raises(UserError, match=r"any of 4 images of training identity 1: .*1/"):
        data[0, position_of(data, 6)]


def test_a_clip_with_a_broken_frame_gives_way_to_another_clip(
    tracklets: list[Record], tmp_path: Path
) -> None:
    for record in tracklets:
        cut_short(tmp_path / record.frames[0])
    data = train_set(tracklets, tmp_path, prepare=CLIPS, skip_broken=True)
    samples = [sample for epoch in range(4) for sample in whole_epoch(data, epoch)]
    lost = [sample for sample in samples if sample.broken]
    assert 0 < len(lost) < len(samples)
    for sample in lost:
        assert sample.broken == (tracklets[sample.identity].frames[0],)
        assert sample.images.shape == (3, 2, 16, 8)


def test_a_tracklet_whose_every_clip_is_broken_is_an_error(
    tracklets: list[Record], tmp_path: Path
) -> None:
    for record in tracklets:
        for name in record.frames:
            cut_short(tmp_path / name)
    data = train_set(tracklets, tmp_path, prepare=CLIPS, skip_broken=True)
    with pytest.raises(UserError, match=r"any of \d images of training identity"):
        data[0, 0]


def test_evaluation_says_which_record_is_broken_and_why(
    pictures: list[Record], tmp_path: Path
) -> None:
    cut_short(tmp_path / "1/2.png")
    data = eval_set(pictures, tmp_path, skip_broken=True)
    found = data[6]
    assert isinstance(found, UnreadableRecord)
    assert (found.index, found.path) == (6, "1/2.png")
    assert "cannot read" in found.reason
    assert isinstance(data[5], EvalSample)


def test_evaluation_breaks_a_clip_with_its_frame(tracklets: list[Record], tmp_path: Path) -> None:
    (tmp_path / "walk0/00002.png").unlink()
    clips, _ = clips_of_tracklets(tracklets, 2, 2)
    data = eval_set(list(clips), tmp_path, prepare=ClipEvaluation(16, 8), skip_broken=True)
    broken = [
        item for item in (data[i] for i in range(len(data))) if isinstance(item, UnreadableRecord)
    ]
    assert [(item.index, item.path) for item in broken] == [(1, "walk0/00002.png")]
