"""Frames of clips, also recorded values for a clone without the recordings."""

import random

import numpy as np
import pytest

from ffreid.reid.data.clips import chunks, clip_indices, crop_by_segment, crop_by_stride


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
