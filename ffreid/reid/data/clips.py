"""Choice of the frames of a clip, in training and in evaluation.

Random numbers are those of Simple-CCReID: `random.Random(s)` and `np.random.RandomState(s)` give
the same values as the global generators seeded with s.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ffreid.reid.data.records import Record


def crop_by_stride(
    count: int, *, length: int, stride: int, rng: random.Random, numpy_rng: np.random.RandomState
) -> list[int]:
    """Draw `length` of `count` frames, every `stride`-th from a random start.

    Tracklets that are too short are sampled by `crop_by_segment`.
    """
    if count < length * stride:
        return crop_by_segment(count, length=length, rng=rng, numpy_rng=numpy_rng)
    begin = rng.randint(0, count - (length - 1) * stride - 1)
    return list(range(begin, begin + length * stride, stride))


def crop_by_segment(
    count: int, *, length: int, rng: random.Random, numpy_rng: np.random.RandomState
) -> list[int]:
    """Draw a frame from each of `length` equal segments (TSN, Wang et al. 2016).

    The remainder at the end is ignored; shorter tracklets are sampled with replacement.
    """
    if count < length:
        return sorted(numpy_rng.choice(count, size=length, replace=True).tolist())
    size = count // length
    return [rng.choice(range(i * size, (i + 1) * size)) for i in range(length)]


def chunks(count: int, step: int) -> list[tuple[int, int]]:
    """Split `count` frames into [start, end) of `step` each, the last with the rest; 0: one."""
    number = count // step if step else 0
    if number == 0:
        return [(0, count)]
    ends = [*range(step, number * step, step), count]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def clip_indices(count: int, length: int, stride: int) -> list[list[int]]:
    """Distribute `count` frames over clips of `length`, each frame once.

    Blocks of length x stride frames become `stride` interleaved clips; the rest is interleaved
    with the largest possible stride; the last frames, fewer than `length`, are repeated in turn.
    """
    clips: list[list[int]] = []
    start = 0
    while count - start >= length:
        width = min(stride, (count - start) // length)
        end = start + length * width
        clips += [list(range(start + offset, end, width)) for offset in range(width)]
        start = end
    if start < count:
        clips.append([start + i % (count - start) for i in range(length)])
    return clips


def dense_chunks(records: Sequence[Record], step: int) -> tuple[Record, ...]:
    """Split training tracklets into chunks of `step` frames (last: up to 2 step - 1); 0: none."""
    return tuple(
        replace(record, frames=record.frames[start:end])
        for record in records
        for start, end in chunks(len(record.frames), step)
    )


def clips_of_tracklets(
    records: Sequence[Record], length: int, stride: int
) -> tuple[tuple[Record, ...], Tensor]:
    """Split test tracklets into clips of `length` frames; (V, 2) int64 are [start, end) of each."""
    clips: list[Record] = []
    spans: list[tuple[int, int]] = []
    for record in records:
        start = len(clips)
        for frames in clip_indices(len(record.frames), length, stride):
            clips.append(replace(record, frames=tuple(record.frames[i] for i in frames)))
        spans.append((start, len(clips)))
    return tuple(clips), torch.tensor(spans, dtype=torch.int64).reshape(-1, 2)
