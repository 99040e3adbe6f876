"""Frames that make a clip; a few recorded values for a clone without the recordings."""

import random

import numpy as np
import pytest
import torch

from ffreid.reid.data.clips import (
    chunks,
    clip_indices,
    clips_of_tracklets,
    crop_by_segment,
    crop_by_stride,
    dense_chunks,
)
from ffreid.reid.data.records import Record


def tracklet(count: int, *, name: str = "a", identity: int = 0) -> Record:
    return Record(tuple(f"{name}/{i:05}.jpg" for i in range(count)), identity, 3, 5)


def drawn(count: int, *, length: int, stride: int = 0, seed: int = 0) -> list[int]:
    rng, numpy_rng = random.Random(seed), np.random.RandomState(seed)
    if stride:
        return crop_by_stride(count, length=length, stride=stride, rng=rng, numpy_rng=numpy_rng)
    return crop_by_segment(count, length=length, rng=rng, numpy_rng=numpy_rng)


@pytest.mark.parametrize(
    ("count", "length", "stride", "seed", "frames"),
    [
        (9, 4, 8, 1, [0, 2, 5, 6]),
        (9, 4, 3, 0, [1, 3, 4, 7]),
        (16, 4, 0, 1, [1, 4, 10, 12]),
        (31, 8, 0, 0, [1, 4, 6, 10, 14, 16, 19, 22]),
        (1, 8, 4, 0, [0] * 8),
    ],
)
def test_crops_are_the_recorded_ones(
    count: int, length: int, stride: int, seed: int, frames: list[int]
) -> None:
    assert drawn(count, length=length, stride=stride, seed=seed) == frames


@pytest.mark.parametrize(
    ("count", "step", "expected"),
    [
        (30, 64, [(0, 30)]),
        (127, 64, [(0, 127)]),
        (191, 64, [(0, 64), (64, 191)]),
        (200, 64, [(0, 64), (64, 128), (128, 200)]),
        (200, 0, [(0, 200)]),
    ],
)
def test_chunks_are_the_recorded_ones(
    count: int, step: int, expected: list[tuple[int, int]]
) -> None:
    assert chunks(count, step) == expected


@pytest.mark.parametrize(
    ("count", "length", "stride", "clips"),
    [
        (3, 8, 4, [[0, 1, 2, 0, 1, 2, 0, 1]]),
        (10, 4, 8, [[0, 2, 4, 6], [1, 3, 5, 7], [8, 9, 8, 9]]),
        (13, 4, 8, [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11], [12] * 4]),
        (9, 8, 4, [[0, 1, 2, 3, 4, 5, 6, 7], [8] * 8]),
    ],
)
def test_recombined_frames_are_the_recorded_ones(
    count: int, length: int, stride: int, clips: list[list[int]]
) -> None:
    assert clip_indices(count, length, stride) == clips


@pytest.mark.parametrize("count", [*range(1, 75), 500])
def test_recombination_uses_every_frame_and_repeats_in_the_last_clip_only(count: int) -> None:
    clips = clip_indices(count, 8, 4)
    assert len(clips) == -(-count // 8)
    assert {len(clip) for clip in clips} == {8}
    used = [frame for clip in clips for frame in dict.fromkeys(clip)]
    assert sorted(used) == list(range(count))


def test_dense_sampling_keeps_labels_and_order() -> None:
    first, second = tracklet(7), tracklet(2, name="b", identity=1)
    cut = dense_chunks([first, second], 3)
    assert [record.frames for record in cut] == [first.frames[:3], first.frames[3:], second.frames]
    assert [(r.identity, r.camera, r.clothes) for r in cut] == [(0, 3, 5), (0, 3, 5), (1, 3, 5)]


def test_spans_say_which_clips_are_a_tracklets() -> None:
    records = [tracklet(9), tracklet(3, name="b", identity=1), tracklet(8, name="c")]
    clips, spans = clips_of_tracklets(records, 4, 2)
    assert spans.tolist() == [[0, 3], [3, 4], [4, 6]]
    assert spans.dtype == torch.int64
    for record, (start, end) in zip(records, spans.tolist(), strict=True):
        assert {f for clip in clips[start:end] for f in clip.frames} == set(record.frames)
        assert {clip.identity for clip in clips[start:end]} == {record.identity}


def test_no_tracklets_give_no_spans() -> None:
    clips, spans = clips_of_tracklets([], 8, 4)
    assert clips == ()
    assert spans.shape == (0, 2)
