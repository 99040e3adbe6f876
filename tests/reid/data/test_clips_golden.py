"""Clips of tracklets in training and evaluation against the recorded ones."""

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ffreid.reid.data.clips import (
    chunks,
    clip_indices,
    clips_of_tracklets,
    crop_by_segment,
    crop_by_stride,
    dense_chunks,
)
from ffreid.reid.data.records import Record
from tests.golden import facts, recordings

pytestmark = pytest.mark.golden
CLIPS = recordings("ccreid", "ccvid_clips.json")
TEMPORAL = recordings("ccreid", "temporal.json")
DATASETS = recordings("ccreid", "datasets.json")
# CCVID's published settings.
STEP, LENGTH, STRIDE = 64, 8, 4


def expanded(clip: Any) -> list[int]:
    if isinstance(clip, list):
        return clip
    start, step, count = clip["r"]
    return [start + i * step for i in range(count)]


@pytest.mark.parametrize("stem", CLIPS)
def test_recombined_frames_equal_the_recorded(stem: str) -> None:
    settings = facts("ccreid", stem)["recombination"]
    assert settings
    for setting, by_count in settings.items():
        length, stride = (int(number) for number in re.findall(r"\d+", setting))
        assert by_count
        for count, clips in by_count.items():
            expected = [expanded(clip) for clip in clips]
            assert clip_indices(int(count), length, stride) == expected, (setting, count)


@pytest.mark.parametrize("stem", CLIPS)
def test_dense_chunks_equal_the_recorded(stem: str) -> None:
    settings = facts("ccreid", stem)["dense"]
    assert settings
    for setting, by_count in settings.items():
        step = int(setting.removeprefix("step"))
        assert by_count
        for count, expected in by_count.items():
            actual = [list(chunk) for chunk in chunks(int(count), step)]
            assert actual == expected, (setting, count)


@pytest.mark.parametrize("stem", TEMPORAL)
@pytest.mark.parametrize(
    ("name", "crop"),
    [("TemporalRandomCrop", crop_by_stride), ("TemporalDivisionCrop", crop_by_segment)],
)
def test_temporal_crops_equal_the_recorded(
    stem: str, name: str, crop: Callable[..., list[int]]
) -> None:
    cases = facts("ccreid", stem)[name]
    assert cases
    for case in cases:
        spacing = {"stride": case["stride"]} if "stride" in case else {}
        actual = crop(
            case["n"],
            length=case["size"],
            rng=random.Random(case["seed"]),
            numpy_rng=np.random.RandomState(case["seed"]),
            **spacing,
        )
        assert actual == case["out"], case


def frame(tracklet: str, number: int) -> str:
    return f"{tracklet}/{number:05}.jpg"


def tracklets(rows: list[Any]) -> list[Record]:
    return [
        Record(tuple(frame(path, i + 1) for i in range(count)), identity, camera, clothes)
        for path, count, identity, camera, clothes in rows
    ]


@pytest.mark.parametrize("stem", DATASETS)
def test_training_tracklets_equal_the_recorded(stem: str) -> None:
    expected = facts("ccreid", stem)["ccvid"]["expected"]
    actual = [
        (record.frames[0], record.frames[-1], record.identity, record.camera, record.clothes)
        for record in dense_chunks(tracklets(expected["train"]), STEP)
    ]
    assert actual
    assert actual == [
        (frame(path, first), frame(path, last), identity, camera, clothes)
        for path, first, last, identity, camera, clothes in expected["train_dense"]
    ]


@pytest.mark.parametrize("stem", DATASETS)
@pytest.mark.parametrize("side", ["query", "gallery"])
def test_evaluation_clips_equal_the_recorded(stem: str, side: str) -> None:
    expected = facts("ccreid", stem)["ccvid"]["expected"]
    clips, spans = clips_of_tracklets(tracklets(expected[side]), LENGTH, STRIDE)
    assert clips
    assert clips == tuple(
        Record(tuple(frame(path, number) for number in numbers), identity, camera, clothes)
        for path, numbers, identity, camera, clothes in expected[f"recombined_{side}"]
    )
    assert spans.tolist() == expected[f"{side}_vid2clip_index"]
