"""Frames of clips, also recorded values for a clone without the recordings."""

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
def test_crops_equal_the_recorded(
    count: int, length: int, stride: int, seed: int, frames: list[int]
) -> None:
    rng, numpy_rng = random.Random(seed), np.random.RandomState(seed)
    if stride:
        crop = crop_by_stride(count, length=length, stride=stride, rng=rng, numpy_rng=numpy_rng)
    else:
        crop = crop_by_segment(count, length=length, rng=rng, numpy_rng=numpy_rng)
    assert crop == frames


def test_chunks_equal_the_recorded() -> None:
    assert chunks(30, 64) == [(0, 30)]
    assert chunks(127, 64) == [(0, 127)]
    assert chunks(191, 64) == [(0, 64), (64, 191)]
    assert chunks(200, 64) == [(0, 64), (64, 128), (128, 200)]
    assert chunks(200, 0) == [(0, 200)]


def test_recombined_frames_equal_the_recorded() -> None:
    assert clip_indices(3, 8, 4) == [[0, 1, 2, 0, 1, 2, 0, 1]]
    assert clip_indices(10, 4, 8) == [[0, 2, 4, 6], [1, 3, 5, 7], [8, 9, 8, 9]]
    assert clip_indices(13, 4, 8) == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11], [12] * 4]
    assert clip_indices(9, 8, 4) == [[0, 1, 2, 3, 4, 5, 6, 7], [8] * 8]


@pytest.mark.parametrize("count", [*range(1, 75), 500])
def test_clips_have_every_frame_and_repeat_frames_in_the_last_only(count: int) -> None:
    clips = clip_indices(count, 8, 4)
    assert len(clips) == -(-count // 8)
    assert {len(clip) for clip in clips} == {8}
    used = [frame for clip in clips for frame in dict.fromkeys(clip)]
    assert sorted(used) == list(range(count))


def test_dense_chunks_keep_labels_and_order() -> None:
    first, second = tracklet(7), tracklet(2, name="b", identity=1)
    records = dense_chunks([first, second], 3)
    frames = [record.frames for record in records]
    assert frames == [first.frames[:3], first.frames[3:], second.frames]
    labels = [(r.identity, r.camera, r.clothes) for r in records]
    assert labels == [(0, 3, 5), (0, 3, 5), (1, 3, 5)]


def test_spans_are_the_clips_of_each_tracklet() -> None:
    records = [tracklet(9), tracklet(3, name="b", identity=1), tracklet(8, name="c")]
    clips, spans = clips_of_tracklets(records, 4, 2)
    assert spans.tolist() == [[0, 3], [3, 4], [4, 6]]
    assert spans.dtype == torch.int64
    for record, (start, end) in zip(records, spans.tolist(), strict=True):
        assert {f for clip in clips[start:end] for f in clip.frames} == set(record.frames)
        assert {clip.identity for clip in clips[start:end]} == {record.identity}
    clips, spans = clips_of_tracklets([], 8, 4)
    assert (clips, spans.shape) == ((), (0, 2))
